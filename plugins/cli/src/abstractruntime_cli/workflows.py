"""Workflows named on the command line: ``MODULE:WORKFLOW``, imported as a program in the working directory would."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from abstractruntime.errors import AbstractRuntimeError, UsageError
from abstractruntime.workflow import WorkflowSpec

if TYPE_CHECKING:
    from abstractruntime.effects import HandlerLike

HANDLERS_ATTRIBUTE = "effect_handlers"
"""A workflow's module may have a mapping of that name: effect type → handler."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedWorkflow:
    """A workflow, the text that named it, and the effect handlers that its module brings along."""

    reference: str
    workflow: WorkflowSpec
    effect_handlers: Mapping[str, HandlerLike]


def load_workflow(reference: str) -> NamedWorkflow:
    """Import what ``reference`` names.

    ``MODULE`` is a dotted module name, looked up in the working directory first, or the path of a ``.py`` file.
    ``WORKFLOW`` is a dotted attribute: a `WorkflowSpec`, or a function without arguments that returns one. It may be
    left out where the module has exactly one. Raises `UsageError` that names module and attribute, and the nearest
    that exists.
    """
    place, colon, attribute = reference.partition(":")
    if not place or (colon and not attribute):
        raise UsageError(
            f"{reference!r} names no workflow",
            hint="write MODULE:WORKFLOW, e.g. demo:review for the workflow `review` in demo.py",
            reference=reference,
        )
    module = _import(place)
    named = attribute or _only_workflow(module, place)
    found = _attribute(module, place, named)
    return NamedWorkflow(
        reference=reference if attribute else f"{place}:{named}",
        workflow=_as_workflow(found, f"{place}:{named}"),
        effect_handlers=_handlers(module, place),
    )


def _import(place: str) -> ModuleType:
    working_directory = str(Path.cwd())
    if working_directory not in sys.path:
        sys.path.insert(0, working_directory)
    name = _module_name_of_file(place) if place.endswith(".py") else place
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(name)
    except AbstractRuntimeError:
        raise  # the module itself says what is wrong with its workflow
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise _no_module(error.name, place) from error
        raise _broken_module(place, error) from error
    except (Exception, SystemExit) as error:  # whatever the module's own code raises is its author's to read
        raise _broken_module(place, error) from error
    if place.endswith(".py") and Path(str(module.__file__)).resolve() != Path(place).resolve():
        raise UsageError(
            f"{place} cannot be imported: another module is already named {name!r}",
            hint="give the file another name",
            reference=place,
        )
    return module


def _module_name_of_file(place: str) -> str:
    """The name under which a file is imported; its folder becomes the first place where modules are looked for."""
    path = Path(place)
    if not path.is_file():
        raise UsageError(
            f"there is no file {place}",
            hint=_nearest(path.name, (other.name for other in path.parent.glob("*.py")))
            or f"the path is taken from {Path.cwd()}",
            reference=place,
        )
    sys.path.insert(0, str(path.resolve().parent))
    return path.stem


def _no_module(missing: str, place: str) -> UsageError:
    near = _nearest(missing.rpartition(".")[2], _modules_beside(missing))
    return UsageError(
        f"there is no module {missing!r}" + ("" if missing == place else f" (on the way to {place!r})"),
        hint=near or f"modules are looked for in {Path.cwd()} and in the installed packages",
        module=missing,
    )


def _modules_beside(missing: str) -> Iterable[str]:
    folder = Path.cwd().joinpath(*missing.split(".")[:-1])
    if not folder.is_dir():
        return []
    files = (path.stem for path in folder.glob("*.py"))
    packages = (path.parent.name for path in folder.glob("*/__init__.py"))
    return [*files, *packages]


def _broken_module(place: str, error: BaseException) -> UsageError:
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "importlib" not in frame.filename]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    if isinstance(error, SyntaxError) and error.filename:
        where = f" ({Path(error.filename).name}, line {error.lineno})"
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return UsageError(
        f"importing {place!r} failed: {type(error).__name__}: {said}{where}",
        hint="run again with -v for the traceback",
        module=place,
    )


def _only_workflow(module: ModuleType, place: str) -> str:
    names = _workflow_names(module)
    if len(names) == 1:
        return names[0]
    if names:
        raise UsageError(
            f"module {place!r} has {len(names)} workflows",
            hint="name one: " + ", ".join(f"{place}:{name}" for name in names),
            module=place,
        )
    raise UsageError(
        f"module {place!r} has no workflow",
        hint="name the function that makes it: MODULE:FUNCTION",
        module=place,
    )


def _workflow_names(module: ModuleType) -> list[str]:
    return sorted(
        name for name, value in vars(module).items() if isinstance(value, WorkflowSpec) and not name.startswith("_")
    )


def _attribute(module: ModuleType, place: str, attribute: str) -> object:
    found: object = module
    for name in attribute.split("."):
        if not hasattr(found, name):
            workflows = _workflow_names(module)
            near = _nearest(attribute, [*workflows, *(other for other in vars(module) if not other.startswith("_"))])
            listed = f"its workflows: {', '.join(workflows)}" if workflows else "it has no workflow"
            raise UsageError(
                f"module {place!r} has no attribute {attribute!r}",
                hint=f"{near}; {listed}" if near else listed,
                module=place,
                attribute=attribute,
            )
        found = getattr(found, name)
    return found


def _as_workflow(found: object, reference: str) -> WorkflowSpec:
    made = found
    if callable(found) and not isinstance(found, WorkflowSpec):
        try:
            made = found()
        except AbstractRuntimeError:
            raise
        except Exception as error:
            raise UsageError(
                f"{reference} is called without arguments to make the workflow, and raised "
                f"{type(error).__name__}: {error}",
                hint="name a WorkflowSpec, or a function without arguments that returns one",
                reference=reference,
            ) from error
    if not isinstance(made, WorkflowSpec):
        what = f"gives a {type(made).__name__}" if made is not found else f"is a {type(found).__name__}"
        raise UsageError(
            f"{reference} {what}, not a workflow",
            hint="name a WorkflowSpec, or a function without arguments that returns one",
            reference=reference,
        )
    return made


def _handlers(module: ModuleType, place: str) -> Mapping[str, HandlerLike]:
    handlers = getattr(module, HANDLERS_ATTRIBUTE, {})
    if not isinstance(handlers, Mapping):
        raise UsageError(
            f"{place}.{HANDLERS_ATTRIBUTE} is a {type(handlers).__name__}, not a mapping of effect types to handlers",
            hint=f'{HANDLERS_ATTRIBUTE} = {{"send_mail": send_mail}}',
            module=place,
        )
    return handlers


def _nearest(word: str, known: Iterable[str]) -> str | None:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else None
