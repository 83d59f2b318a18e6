"""Images, sounds, videos and files in a chat request: where they stand, and what part each becomes. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice

from gemproxy.converter.gemini import media
from gemproxy.converter.gemini.media import RemoteImage
from gemproxy.errors import ClientFault
from gemproxy.models import Model
from gemproxy.wire.gemini import Blob, Part
from gemproxy.wire.openai_chat import (
    AssistantMessage,
    AudioPart,
    ChatRequest,
    FilePart,
    ImagePart,
    ImageUrl,
    InputFile,
    VideoPart,
    VideoUrl,
)

MediaPart = ImagePart | AudioPart | FilePart | VideoPart


def remote_images(request: ChatRequest, most: int | None = None) -> list[RemoteImage]:
    """Return the http(s) images that a request names, in order and at every mention: each is sent as often.

    Beyond ``most`` one more is returned, to be refused; nobody asks for the rest.
    """
    return list(islice(_remote(request), None if most is None else most + 1))


def _remote(request: ChatRequest) -> Iterator[RemoteImage]:
    for index, message in enumerate(request.messages):
        if isinstance(message.content, list):
            for position, part in enumerate(message.content):
                if type(part) is ImagePart and media.is_remote(url := _address(part.image_url)):
                    yield RemoteImage(url, f"messages[{index}].content[{position}]")
        if isinstance(message, AssistantMessage) and message.images:
            for position, image in enumerate(message.images):
                if media.is_remote(url := _address(image.image_url)):
                    yield RemoteImage(url, f"messages[{index}].images[{position}]")


def _address(image: ImageUrl | VideoUrl | str) -> str:
    """Return the address of an image or video, without the spaces that templates leave around it."""
    return (image if isinstance(image, str) else image.url).strip()


def media_part(part: MediaPart, param: str, images: Mapping[str, Blob], model: Model) -> Part:
    """Return the part for any content part that is not text; ``param`` names it in faults."""
    if type(part) is ImagePart:
        return picture(part.image_url, param, images, model)
    if type(part) is AudioPart:
        return media.sound(part.input_audio.data, part.input_audio.format, param)
    if type(part) is VideoPart:
        return media.video(_address(part.video_url), param)
    assert type(part) is FilePart
    return _file(part.file, param)


def picture(image: ImageUrl | str, param: str, images: Mapping[str, Blob], model: Model) -> Part:
    """Return the part for an image; ``images`` holds the fetched ones by address."""
    detail = None if isinstance(image, str) else image.detail
    return media.picture(_address(image), detail, param, images, model)


def _file(file: InputFile, param: str) -> Part:
    if file.file_data:
        return media.document(file.file_data, file.filename, param)
    if file.file_id:
        return media.document_by_id(file.file_id, file.filename, param)
    raise ClientFault("The file has neither file_data nor file_id.", param=param)
