"""One run of a study in a process of its own: `python -m seehear.studies.worker FOLDER ARM SEED`.

Prints nothing, or the error as JSON, and exits with its code.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from seehear.engine.stop import StopRequest
from seehear.errors import SeehearError
from seehear.studies.folder import StudyFolder
from seehear.studies.named import study_of
from seehear.studies.running import Job, carry_out


def main(path: str, arm_name: str, seed: str) -> int:
    """Do the job that the study in the folder `path` has for this arm and seed; the exit code."""
    folder = StudyFolder(Path(path))
    name, question = folder.question()
    study = study_of(name)
    arm = next(arm for arm in study.arms(question) if arm.name == arm_name)
    try:
        with StopRequest().listening():  # what is being scored is scored to its end
            carry_out(folder, study, question, Job(arm, int(seed)), quiet=True)
    except SeehearError as error:
        print(json.dumps({"message": error.message, "remedy": error.remedy}))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
