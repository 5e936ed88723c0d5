"""What can go wrong with the repository on the host."""

from __future__ import annotations

from edgekit.errors import EdgeKitError


class PublishingError(EdgeKitError):
    """The repository cannot be made or changed as asked; what boards see is as it was."""


class UpdateKeyError(PublishingError):
    """A key of the repository is missing, locked, open to others, or another one."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class RepositoryFilesError(PublishingError, ValueError):
    """The repository's files are damaged, or were made with other keys."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class PublishedOtherwiseError(PublishingError):
    """Other bytes are published under the same name and version."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} is published with other bytes, and boards may have it; give the new one its own version: "
            "edgekit bundle --version N.N.N"
        )
        self.name = name


class NotPublishedError(PublishingError):
    """The repository does not offer that."""

    def __init__(self, name: str, offered: list[str]) -> None:
        super().__init__(
            f"{name} is not published (offered: {', '.join(offered) or 'nothing'}); "
            "offer it: edgekit fleet publish FILE"
        )
        self.name = name
