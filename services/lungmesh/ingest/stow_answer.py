"""The STOW-RS answer: PS3.18 10.5.3 and the Store Instances Response Module of Annex I.2."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pydicom.dataset import Dataset

from lungmesh.ingest.intake import Answer
from lungmesh.ingest.refusals import REFUSALS, SUCCESS

# "Not ready: send again later" is as passing as a full disk.
_LATER = 503


def status_of(answers: Sequence[Answer]) -> int:
    """Return the HTTP status: 200 all stored, 202 some, else what the failures have in common."""
    failed = [answer for answer in answers if answer.status != SUCCESS]
    if not failed:
        return 200
    if len(failed) < len(answers):
        return 202
    statuses = {
        REFUSALS[answer.code].http if answer.code in REFUSALS else _LATER for answer in failed
    }
    return statuses.pop() if len(statuses) == 1 else 409


def body_of(answers: Sequence[Answer]) -> str:
    """Return the response data set as DICOM JSON (PS3.18 Annex F)."""
    response = Dataset()
    response.RetrieveURL = ""
    failed = [answer for answer in answers if answer.status != SUCCESS]
    response.ReferencedSOPSequence = [
        _item(answer) for answer in answers if answer.status == SUCCESS
    ]
    response.FailedSOPSequence = [_item(answer) for answer in failed if answer.sop_instance_uid]
    # Objects that could not be read far enough to name them.
    response.OtherFailuresSequence = [
        _item(answer) for answer in failed if not answer.sop_instance_uid
    ]
    for keyword in ("ReferencedSOPSequence", "FailedSOPSequence", "OtherFailuresSequence"):
        if not response[keyword].value:
            del response[keyword]
    return json.dumps(response.to_json_dict(), ensure_ascii=False)


def _item(answer: Answer) -> Dataset:
    item = Dataset()
    if answer.sop_instance_uid:
        item.ReferencedSOPClassUID = answer.sop_class_uid
        item.ReferencedSOPInstanceUID = answer.sop_instance_uid
    if answer.status == SUCCESS:
        item.RetrieveURL = ""
    else:
        item.FailureReason = answer.status
        # Beyond the standard: the sentence, where archives are used to put it.
        item.ErrorComment = answer.sentence
    return item
