"""What the disk refuses is said with its file, its reason and what to do."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from common.store.files import naming, refusal, replace_atomically


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "No space left on device; free space on that disk, or choose another"),
        (errno.EROFS, "Read-only file system; give this user the right to write there, or choose"),
        (errno.ENOENT, "No such file or directory; bring that folder or disk back, or choose"),
    ],
)
def test_a_refusal_says_what_to_do(number: int, message: str) -> None:
    said = refusal(OSError(number, os.strerror(number)))
    assert said.startswith(message)
    assert said.endswith(": the same command resumes")


def test_what_is_no_matter_of_the_disk_is_said_as_it_is() -> None:
    assert refusal(OSError(errno.EPIPE, "Broken pipe")) == "Broken pipe"
    assert refusal(OSError("odd")) == "odd"


def test_an_error_names_the_file_that_was_to_be_written(tmp_path: Path) -> None:
    path = tmp_path / "none" / "file"
    with pytest.raises(FileNotFoundError) as caught:
        replace_atomically(path, b"")
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match="No space") as full, naming(path):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert full.value.filename == str(path)
