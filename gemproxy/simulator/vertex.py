"""Vertex AI besides generation: who may ask which model where (docs/protocol.md 2.8, 3.2).

In: an account and the resource that was asked. Out: nothing, or a ``Refusal``.
"""

from __future__ import annotations

from gemproxy.simulator import google_errors as errors
from gemproxy.simulator.accounts import Account, AccountState
from gemproxy.simulator.google_errors import Refusal

_BUSY = (
    "Resource exhausted. Please try again later. Please refer to "
    "https://cloud.google.com/vertex-ai/generative-ai/docs/error-code-429 for more details."
)


def check(account: Account, project: str, resource: str) -> None:
    """Raise ``Refusal`` when this account may not ask this model."""
    match account.state:
        case AccountState.RATE_LIMITED | AccountState.EXHAUSTED:
            raise Refusal(429, _BUSY)
        case AccountState.NO_CAPACITY:
            raise errors.overloaded()
        case AccountState.SERVICE_DISABLED:
            raise errors.denied(
                f"Vertex AI API has not been used in project {project} before or it is disabled. Enable it by visiting "
                f"https://console.developers.google.com/apis/api/aiplatform.googleapis.com/overview?project={project} "
                "then retry.",
                "SERVICE_DISABLED",
                consumer=f"projects/{project}",
                service="aiplatform.googleapis.com",
            )
        case AccountState.OK:
            return
        case _:
            raise errors.denied(
                "Permission 'aiplatform.endpoints.predict' denied on resource "
                f"'//aiplatform.googleapis.com/{resource}' (or it may not exist).",
                "IAM_PERMISSION_DENIED",
                "aiplatform.googleapis.com",
                permission="aiplatform.endpoints.predict",
                resource=resource,
            )
