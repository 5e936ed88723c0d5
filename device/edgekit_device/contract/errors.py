"""The one tree of named errors. Facts are attributes, the remedy is in the message.

A known error reaches the terminal as one line; its class decides the exit code:
0 done, 1 failed, 2 usage, 3 a gate said no.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping


class EdgeKitError(Exception):
    """Root of every error that EdgeKit raises on purpose."""

    exit_code = 1


class UsageError(EdgeKitError, ValueError):
    """The words of a command, or the arguments of a call, do not fit together."""

    exit_code = 2


class GateError(EdgeKitError):
    """Everything ran, and a stated limit was not met."""

    exit_code = 3


class MissingPackageError(EdgeKitError, ImportError):
    """An optional package is needed for what was asked."""

    def __init__(self, package: str, purpose: str, install: str) -> None:
        super().__init__(f"{purpose} needs {package}; install it with: {install}")
        self.package, self.purpose, self.install = package, purpose, install


class ContractError(EdgeKitError):
    """A document, a bundle or a message breaks the contract between host and board."""


class SchemaError(ContractError, ValueError):
    """A document states a schema that this version does not read."""

    def __init__(self, document: str, found: object, supported: int) -> None:
        super().__init__(
            f"{document}: schema {found!r} is not readable here (this version reads {supported}); "
            "upgrade the side that is older"
        )
        self.document, self.found, self.supported = document, found, supported


class FieldError(ContractError, ValueError):
    """A field is missing, has the wrong type or lies outside its range."""

    def __init__(self, document: str, field: str, problem: str) -> None:
        super().__init__(f"{document}: field '{field}' {problem}")
        self.document, self.field, self.problem = document, field, problem


class BundleError(ContractError):
    """A bundle cannot be used."""


class BundleFormatError(BundleError, ValueError):
    """A file is not a bundle, or its zip structure is not the one the contract fixes."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; rebuild it with: edgekit bundle MODEL -o {path}")
        self.path, self.problem = path, problem


class DigestMismatchError(BundleError, ValueError):
    """A file in a bundle is not the file its manifest names.

    Usual causes: a copy that was cut short, or a model replaced by hand.
    """

    def __init__(self, path: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{path}: manifest promises sha256 {expected[:12]}, found {actual[:12]}; "
            "copy the bundle again or rebuild it"
        )
        self.path, self.expected, self.actual = path, expected, actual


class SignatureError(BundleError):
    """A bundle's signature is missing, broken, or made by a key that is not trusted here."""


class UnsignedBundleError(SignatureError):
    """There is no signature file beside the bundle."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: no signature at {path}.minisig; copy it along, or sign with: edgekit bundle")
        self.path = path


class UntrustedKeyError(SignatureError):
    """The signature was made with a key that this machine does not trust."""

    def __init__(self, path: str, key_id: str, trusted: Iterable[str]) -> None:
        known = ", ".join(trusted) or "none"
        super().__init__(
            f"{path}: signed with key {key_id}, which is not trusted here (trusted: {known}); "
            "name the signer's public key with --pubkey FILE"
        )
        self.path, self.key_id = path, key_id


class NoTrustedKeyError(SignatureError):
    """No public key is known on this machine, so no bundle can be accepted."""

    def __init__(self, looked_at: Iterable[str]) -> None:
        super().__init__(
            "no public key to check the bundle with (looked at "
            + ", ".join(looked_at)
            + "); name one with --pubkey FILE"
        )


class BadSignatureError(SignatureError):
    """The signature does not match the bundle's bytes: they were changed after signing."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; copy the bundle and its .minisig again, or rebuild it")
        self.path = path


class RuntimeTooOldError(BundleError):
    """A bundle requires a newer edgekit-device than this one."""

    def __init__(self, bundle_id: str, least: str, runtime: str) -> None:
        super().__init__(
            f"{bundle_id} requires edgekit-device {least} or newer, this is {runtime}; bring it with: "
            f"pip install --upgrade 'edgekit-device>={least}'"
        )
        self.bundle_id, self.least, self.runtime = bundle_id, least, runtime


class ShapeError(EdgeKitError, ValueError):
    """An array or a tensor does not have the shape that its user states."""


class ModelError(EdgeKitError):
    """A model file cannot be used for what was asked."""


class ModelFormatError(ModelError, ValueError):
    """The bytes are not a TFLite flatbuffer that can be read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: not a readable TFLite model ({problem}); convert it again: edgekit convert")
        self.path, self.problem = path, problem


class NotAClassifierError(ModelError, ValueError):
    """The model is not one image in, one score vector out."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}; EdgeKit runs classifiers with one image input (1, height, width, channels) "
            "and one score vector (1, classes)"
        )
        self.path, self.problem = path, problem


class DelegateError(ModelError):
    """A rung of the delegate ladder cannot serve."""

    def __init__(self, delegate: str, reason: str) -> None:
        super().__init__(f"{delegate}: {reason}")
        self.delegate, self.reason = delegate, reason


class GoldenMismatchError(ModelError):
    """A rung does not reproduce the golden vectors that the host measured."""

    def __init__(self, delegate: str, image: str, problem: str) -> None:
        super().__init__(
            f"golden self-test failed on {delegate}, {image}: {problem}; this interpreter or delegate computes "
            "something else than the host did - update the runtime or choose another --delegate"
        )
        self.delegate, self.image, self.problem = delegate, image, problem


class SourceError(EdgeKitError):
    """A source of frames cannot deliver."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(f"{source}: {problem}")
        self.source, self.problem = source, problem


class SourceUnavailableError(SourceError):
    """A source cannot be opened: missing file, missing camera, unreadable format."""


class SourceBrokenError(SourceError):
    """A source that was open delivers nothing usable any more."""


class AlbumError(EdgeKitError):
    """The folder of captured pictures cannot be written."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; free some space, or name a folder that this user may write with -o DIR")
        self.path, self.problem = path, problem


class BrokerError(EdgeKitError):
    """The MQTT broker cannot be used as asked."""

    def __init__(self, url: str, problem: str) -> None:
        super().__init__(f"{url}: {problem}")
        self.url, self.problem = url, problem


class BrokerUnreachableError(BrokerError):
    """Nothing answers at the broker's address."""


class WorkerError(EdgeKitError):
    """The worker process could not start serving."""


# slots


class SlotError(EdgeKitError):
    """The releases on this board cannot be changed or read as asked.

    SlotBusyError, SlotConflictError, SlotFullError, SlotDiskError, UnknownSlotError, NoPreviousSlotError,
    DanglingSlotError, SecurityEpochError, RejectedReleaseError.
    """


class SlotBusyError(SlotError):
    """Another process is changing the releases."""

    def __init__(self, root: str) -> None:
        super().__init__(f"{root}: another install or rollback is running; wait for it to end, then try again")
        self.root = root


class SlotConflictError(SlotError):
    """Other bytes are installed under the same name and version."""

    def __init__(self, bundle_id: str) -> None:
        super().__init__(
            f"{bundle_id} is installed with other bytes; give the new bundle its own version: "
            "edgekit bundle --version N.N.N"
        )
        self.bundle_id = bundle_id


class SecurityEpochError(SlotError):
    """A bundle is older than what this board has entered, as far as security is concerned."""

    def __init__(self, bundle_id: str, epoch: int, floor: int) -> None:
        super().__init__(
            f"{bundle_id} has security epoch {epoch}, and this board has entered {floor}; install a bundle of epoch "
            f"{floor} or higher. A release that the board still holds may be entered again: edgekit-device rollback"
        )
        self.bundle_id, self.epoch, self.floor = bundle_id, epoch, floor


class RejectedReleaseError(SlotError, GateError):
    """This board tried the bundle before and went back; it is not tried again by itself."""

    def __init__(self, bundle_id: str, reason: str | None) -> None:
        super().__init__(
            f"{bundle_id} was tried on this board and rejected ({reason or 'no reason was kept'}); nothing was "
            "changed. "
            "To try it again, whatever its speed and size: edgekit-device install --force BUNDLE"
        )
        self.bundle_id, self.reason = bundle_id, reason


class SelfTestError(GateError):
    """No rung of this board reproduces the golden vectors of a bundle; what served before still does."""

    def __init__(self, bundle_id: str, reasons: Mapping[str, str]) -> None:
        said = "; ".join(f"{rung}: {reason}" for rung, reason in reasons.items())
        super().__init__(
            f"{bundle_id} failed its self-test on every rung of this board, so nothing was changed ({said}); "
            "next: edgekit-device doctor, or rebuild the bundle"
        )
        self.bundle_id, self.reasons = bundle_id, dict(reasons)


class SlotFullError(SlotError):
    """The disk has no room for another release; the installed ones are as they were."""

    def __init__(self, root: str, needed_bytes: int | None, free_bytes: int | None) -> None:
        figures = "" if needed_bytes is None else f" ({needed_bytes} bytes needed, {free_bytes} free)"
        super().__init__(f"{root}: no space left for a release{figures}; free some space, then install again")
        self.root, self.needed_bytes, self.free_bytes = root, needed_bytes, free_bytes


class SlotDiskError(SlotError):
    """The file system refuses: no permission, read-only, or an input/output error."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}; check that the folder belongs to this user and that its disk is mounted read-write"
        )
        self.path, self.problem = path, problem


class UnknownSlotError(SlotError):
    """The board holds no release of that name."""

    def __init__(self, bundle_id: str, held: Iterable[str]) -> None:
        super().__init__(f"no release {bundle_id} on this board (it holds: {', '.join(held) or 'none'})")
        self.bundle_id = bundle_id


class NoPreviousSlotError(SlotError):
    """There is no release to go back to."""

    def __init__(self, root: str) -> None:
        super().__init__(f"{root}: no earlier release to go back to; install one first")
        self.root = root


class DanglingSlotError(SlotError):
    """The current release was removed by hand."""

    def __init__(self, link: str, bundle_id: str) -> None:
        super().__init__(f"{link}: names {bundle_id}, which is gone; the next install or start of the board mends it")
        self.link, self.bundle_id = link, bundle_id


# settings


class SettingsError(UsageError):
    """A value in device.toml, in the environment or in a flag is unknown or out of range."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where, self.problem = where, problem


# identity


class CredentialsError(EdgeKitError):
    """The board's identity at the broker is missing, damaged, readable by others, or somebody else's."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class EnrolmentError(EdgeKitError):
    """The fleet's host did not make this board a member."""

    def __init__(self, host: str, problem: str) -> None:
        super().__init__(f"{host}: {problem}")
        self.host, self.problem = host, problem


# outbox


class OutboxError(EdgeKitError):
    """The outbox cannot hold messages; the board keeps them in memory and goes on."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path, self.problem = path, problem


class OutboxDiskError(OutboxError):
    """The disk refuses: full, read-only, failing, or in use by another run."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem, "free some space or mount the disk read-write; it is tried again by itself")


class OutboxCorruptError(OutboxError):
    """The outbox file is damaged, or not an outbox."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem, "it is set aside under another name and a new one begun")
