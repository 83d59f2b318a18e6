"""Google's messages as tables: which names an object may hold, and of what type (docs/protocol.md 1.3-1.6, 2.3).

Data only; ``proto`` reads by it. A type is a scalar word, the name of a message, ``[…]`` for a repeated one,
``{…}`` for a map of them, or a tuple of enum values. ``struct`` is any JSON object, ``value`` any JSON at all.
Checked in a test against the published description of the API.
"""

from __future__ import annotations

Type = str | tuple[str, ...]
Fields = dict[str, Type]

_RESOLUTIONS = tuple("MEDIA_RESOLUTION_" + level for level in ("UNSPECIFIED", "LOW", "MEDIUM", "HIGH", "ULTRA_HIGH"))
_HARMS = ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT", "CIVIC_INTEGRITY", "UNSPECIFIED")
_THRESHOLDS = ("BLOCK_LOW_AND_ABOVE", "BLOCK_MEDIUM_AND_ABOVE", "BLOCK_ONLY_HIGH", "BLOCK_NONE", "OFF")
_TYPES = ("TYPE_UNSPECIFIED", "STRING", "NUMBER", "INTEGER", "BOOLEAN", "ARRAY", "OBJECT", "NULL")
_TOOL_TYPES = (
    "TOOL_TYPE_UNSPECIFIED",
    "GOOGLE_SEARCH_WEB",
    "GOOGLE_SEARCH_IMAGE",
    "URL_CONTEXT",
    "GOOGLE_MAPS",
    "FILE_SEARCH",
)

MESSAGES: dict[str, Fields] = {
    "Content": {"role": "string", "parts": "[Part]"},
    "Part": {
        "text": "string",
        "inlineData": "Blob",
        "fileData": "FileData",
        "functionCall": "FunctionCall",
        "functionResponse": "FunctionResponse",
        "executableCode": "ExecutableCode",
        "codeExecutionResult": "CodeExecutionResult",
        "toolCall": "ToolCall",
        "toolResponse": "ToolResponse",
        "thought": "bool",
        "thoughtSignature": "bytes",
        "videoMetadata": "VideoMetadata",
        "mediaResolution": "PartResolution",
        "partMetadata": "struct",
    },
    "Blob": {"mimeType": "string", "data": "bytes", "displayName": "string"},
    "FileData": {"mimeType": "string", "fileUri": "string"},
    "FunctionCall": {"id": "string", "name": "string", "args": "struct"},
    "FunctionResponse": {
        "id": "string",
        "name": "string",
        "response": "struct",
        "parts": "[ResponsePart]",
        "willContinue": "bool",
        "scheduling": ("SCHEDULING_UNSPECIFIED", "SILENT", "WHEN_IDLE", "INTERRUPT"),
    },
    "ResponsePart": {"inlineData": "Blob", "fileData": "FileData"},
    "ExecutableCode": {"language": ("LANGUAGE_UNSPECIFIED", "PYTHON"), "code": "string", "id": "string"},
    "CodeExecutionResult": {
        "outcome": ("OUTCOME_UNSPECIFIED", "OUTCOME_OK", "OUTCOME_FAILED", "OUTCOME_DEADLINE_EXCEEDED"),
        "output": "string",
        "id": "string",
    },
    "ToolCall": {"id": "string", "toolType": _TOOL_TYPES, "args": "struct"},
    "ToolResponse": {"id": "string", "toolType": _TOOL_TYPES, "response": "struct"},
    "VideoMetadata": {"startOffset": "string", "endOffset": "string", "fps": "double"},
    "PartResolution": {"level": _RESOLUTIONS},
    "Tool": {
        "functionDeclarations": "[FunctionDeclaration]",
        "googleSearch": "GoogleSearch",
        "googleSearchRetrieval": "struct",
        "codeExecution": "Empty",
        "urlContext": "Empty",
        "googleMaps": "struct",
        "fileSearch": "struct",
        "computerUse": "struct",
        "mcpServers": "[McpServer]",
    },
    "Empty": {},
    "GoogleSearch": {"searchTypes": "struct", "timeRangeFilter": "struct"},
    "McpServer": {"name": "string", "streamableHttpTransport": "struct"},
    "FunctionDeclaration": {
        "name": "string",
        "description": "string",
        "parameters": "Schema",
        "parametersJsonSchema": "value",
        "response": "Schema",
        "responseJsonSchema": "value",
        "behavior": ("UNSPECIFIED", "BLOCKING", "NON_BLOCKING"),
    },
    "Schema": {
        "type": _TYPES,
        "format": "string",
        "title": "string",
        "description": "string",
        "nullable": "bool",
        "default": "value",
        "example": "value",
        "enum": "[string]",
        "items": "Schema",
        "minItems": "int64",
        "maxItems": "int64",
        "properties": "{Schema}",
        "propertyOrdering": "[string]",
        "required": "[string]",
        "minProperties": "int64",
        "maxProperties": "int64",
        "minimum": "double",
        "maximum": "double",
        "minLength": "int64",
        "maxLength": "int64",
        "pattern": "string",
        "anyOf": "[Schema]",
    },
    "ToolConfig": {
        "functionCallingConfig": "FunctionCallingConfig",
        "retrievalConfig": "struct",
        "includeServerSideToolInvocations": "bool",
    },
    "FunctionCallingConfig": {
        "mode": ("MODE_UNSPECIFIED", "AUTO", "ANY", "NONE", "VALIDATED"),
        "allowedFunctionNames": "[string]",
    },
    "GenerationConfig": {
        "temperature": "float",
        "topP": "float",
        "topK": "int32",
        "candidateCount": "int32",
        "maxOutputTokens": "int32",
        "stopSequences": "[string]",
        "responseMimeType": "string",
        "responseSchema": "Schema",
        "responseJsonSchema": "value",
        "_responseJsonSchema": "value",
        "responseFormat": "struct",
        "seed": "int32",
        "presencePenalty": "float",
        "frequencyPenalty": "float",
        "responseLogprobs": "bool",
        "logprobs": "int32",
        "responseModalities": "[string]",
        "mediaResolution": _RESOLUTIONS[:4],
        "speechConfig": "struct",
        "imageConfig": "struct",
        "thinkingConfig": "ThinkingConfig",
        "enableEnhancedCivicAnswers": "bool",
    },
    "ThinkingConfig": {
        "includeThoughts": "bool",
        "thinkingBudget": "int32",
        "thinkingLevel": ("THINKING_LEVEL_UNSPECIFIED", "MINIMAL", "LOW", "MEDIUM", "HIGH"),
    },
    "SafetySetting": {
        "category": tuple("HARM_CATEGORY_" + harm for harm in _HARMS),
        "threshold": ("HARM_BLOCK_THRESHOLD_UNSPECIFIED", *_THRESHOLDS),
    },
    "GenerateContentRequest": {
        "model": "string",
        "contents": "[Content]",
        "systemInstruction": "Content",
        "tools": "[Tool]",
        "toolConfig": "ToolConfig",
        "safetySettings": "[SafetySetting]",
        "generationConfig": "GenerationConfig",
        "cachedContent": "string",
        "serviceTier": "string",
        "store": "bool",
        "continuationToken": "string",
    },
    "CountTokensRequest": {"contents": "[Content]", "generateContentRequest": "GenerateContentRequest"},
}


def _vertex() -> dict[str, Fields]:
    """Return the messages as Vertex AI has them: a few names more, a few fewer (docs/protocol.md 2.8)."""
    request = dict(MESSAGES["GenerateContentRequest"])
    for name in ("model", "serviceTier", "store", "continuationToken"):
        del request[name]
    config = {key: kind for key, kind in MESSAGES["GenerationConfig"].items() if key != "enableEnhancedCivicAnswers"}
    return {
        **MESSAGES,
        "GenerateContentRequest": {**request, "labels": "struct", "modelArmorConfig": "struct"},
        "GenerationConfig": {
            **config,
            "audioTimestamp": "bool",
            "routingConfig": "struct",
            "modelSelectionConfig": "struct",
        },
        "FunctionCallingConfig": {**MESSAGES["FunctionCallingConfig"], "streamFunctionCallArguments": "bool"},
        "FunctionCall": {**MESSAGES["FunctionCall"], "partialArgs": "[struct]", "willContinue": "bool"},
        "CountTokensRequest": {
            key: request[key] for key in ("contents", "systemInstruction", "tools", "generationConfig")
        },
        "GoogleSearch": {**MESSAGES["GoogleSearch"], "excludeDomains": "[string]", "blockingConfidence": "string"},
    }


def _code_assist() -> dict[str, Fields]:
    """Return the messages of Code Assist: the Vertex ones, enveloped, with fewer settings (docs/protocol.md 2.3)."""
    request = {key: kind for key, kind in VERTEX["GenerateContentRequest"].items() if key != "modelArmorConfig"}
    unknown = ("imageConfig", "responseFormat", "_responseJsonSchema")
    return {
        **VERTEX,
        "GenerationConfig": {key: kind for key, kind in VERTEX["GenerationConfig"].items() if key not in unknown},
        "VertexRequest": {**request, "sessionId": "string"},
        "Envelope": {
            "model": "string",
            "project": "string",
            "userPromptId": "string",
            "request": "VertexRequest",
            "enabledCreditTypes": "[string]",
        },
        "CountEnvelope": {"request": "CountRequest"},
        "CountRequest": {"model": "string", "contents": "[Content]"},
        "LoadCodeAssistRequest": {
            "cloudaicompanionProject": "string",
            "metadata": "ClientMetadata",
            "mode": ("FULL_ELIGIBILITY_CHECK", "HEALTH_CHECK"),
        },
        "OnboardUserRequest": {"tierId": "string", "cloudaicompanionProject": "string", "metadata": "ClientMetadata"},
        "ClientMetadata": {
            "ideType": "string",
            "ideVersion": "string",
            "pluginVersion": "string",
            "platform": "string",
            "updateChannel": "string",
            "duetProject": "string",
            "pluginType": "string",
            "ideName": "string",
        },
        "QuotaRequest": {"project": "string", "userAgent": "string"},
    }


VERTEX = _vertex()
CODE_ASSIST = _code_assist()
BY_UPSTREAM = {"ai_studio": MESSAGES, "vertex": VERTEX, "code_assist": CODE_ASSIST}
