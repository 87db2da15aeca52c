"""Naming a workflow's code: MODULE:WORKFLOW, and what is said when it cannot be had."""

import pytest

from abstractruntime.errors import UsageError
from abstractruntime_cli.workflows import load_workflow


@pytest.fixture(autouse=True)
def _in_folder(folder):
    """Every test here names modules of the working directory."""


@pytest.mark.parametrize("reference", ["demo:greet", "demo.py:greet", "./demo.py:greet"])
def test_a_workflow_is_named_by_module_or_file(reference):
    named = load_workflow(reference)
    assert named.workflow.workflow_id == "greet"
    assert set(named.effect_handlers) == {"slow", "pay", "die", "fill"}


def test_a_workflow_may_be_made_by_a_function_or_stand_in_a_class(write):
    write(
        "made.py",
        """
        import demo

        def build():
            return demo.review

        class Box:
            inner = demo.greet
        """,
    )
    assert load_workflow("made:build").workflow.workflow_id == "review"
    assert load_workflow("made:Box.inner").workflow.workflow_id == "greet"


def test_the_only_workflow_of_a_module_need_not_be_named(write):
    write("single.py", "from demo import greet as only\n")
    named = load_workflow("single")
    assert named.reference == "single:only"
    with pytest.raises(UsageError, match="'demo' has 7 workflows") as raised:
        load_workflow("demo")
    assert "demo:review" in str(raised.value.hint)


def test_a_module_without_a_workflow_says_so(write):
    write("empty.py", "x = 1\n")
    with pytest.raises(UsageError, match="module 'empty' has no workflow"):
        load_workflow("empty")


def refused(reference: str) -> tuple[str, str]:
    with pytest.raises(UsageError) as raised:
        load_workflow(reference)
    return raised.value.message, str(raised.value.hint)


def test_a_misspelled_module_is_named_with_the_nearest_one():
    message, hint = refused("dmeo:greet")
    assert message == "there is no module 'dmeo'"
    assert hint == "did you mean 'demo'?"


def test_a_misspelled_part_of_a_dotted_module_is_named(folder):
    (folder.path / "flows").mkdir()
    (folder.path / "flows" / "__init__.py").write_text("")
    (folder.path / "flows" / "billing.py").write_text("from demo import greet\n")
    assert load_workflow("flows.billing:greet").workflow.workflow_id == "greet"
    message, hint = refused("flows.biling:greet")
    assert message == "there is no module 'flows.biling'"
    assert hint == "did you mean 'billing'?"
    message, _ = refused("flow.billing:greet")
    assert message == "there is no module 'flow' (on the way to 'flow.billing')"


def test_a_misspelled_file_is_named_with_the_nearest_one():
    message, hint = refused("dmeo.py:greet")
    assert message == "there is no file dmeo.py"
    assert hint == "did you mean 'demo.py'?"


def test_a_misspelled_workflow_is_named_with_the_nearest_and_all_there_are():
    message, hint = refused("demo:reveiw")
    assert message == "module 'demo' has no attribute 'reveiw'"
    assert hint == "did you mean 'review'?; its workflows: event, five, flaky, greet, review, slow, timer"


def test_something_that_is_no_workflow_is_refused_by_what_it_is():
    message, hint = refused("demo:effect_handlers")
    assert message == "demo:effect_handlers is a dict, not a workflow"
    assert "WorkflowSpec" in hint


def test_a_function_that_needs_arguments_or_gives_something_else_is_refused(write):
    write("odd.py", "def needs(x):\n    return x\n\ndef gives():\n    return 3\n")
    assert "raised TypeError" in refused("odd:needs")[0]
    assert refused("odd:gives")[0] == "odd:gives gives a int, not a workflow"


def test_a_module_that_fails_on_import_says_why_and_where(write):
    write("broken.py", "x = 1\ny = x / 0\n")
    message, hint = refused("broken:flow")
    assert message == "importing 'broken' failed: ZeroDivisionError: division by zero (broken.py, line 2)"
    assert "-v" in hint


def test_a_module_that_cannot_be_parsed_says_where(write):
    write("unparsed.py", "x = 1\nif x\n")
    message, _ = refused("unparsed:flow")
    assert message.startswith("importing 'unparsed' failed: SyntaxError: ")
    assert message.endswith("(unparsed.py, line 2)")


def test_a_module_that_needs_a_missing_one_is_not_called_missing_itself(write):
    write("needy.py", "import surely_not_installed\n")
    message, _ = refused("needy:flow")
    assert message.startswith("importing 'needy' failed: ModuleNotFoundError: No module named 'surely_not_installed'")


def test_a_module_that_ends_the_process_is_refused(write):
    write("quitter.py", "import sys\nsys.exit(3)\n")
    assert refused("quitter:flow")[0].startswith("importing 'quitter' failed: SystemExit: 3")


def test_a_workflow_that_makes_no_sense_says_itself_what_is_wrong(write):
    write("bad.py", "from abstractruntime import WorkflowSpec\nflow = WorkflowSpec('w', 'nope', {})\n")
    from abstractruntime.errors import InvalidPlan

    with pytest.raises(InvalidPlan, match="has no node 'nope'"):
        load_workflow("bad:flow")


def test_handlers_that_are_no_mapping_are_refused(write):
    write("listed.py", "from demo import greet\neffect_handlers = [print]\n")
    assert "listed.effect_handlers is a list, not a mapping" in refused("listed:greet")[0]


def test_a_file_named_like_an_imported_module_is_refused_and_not_confused(write):
    write("json.py", "from demo import greet\n")
    message, hint = refused("json.py:greet")
    assert message == "json.py cannot be imported: another module is already named 'json'"
    assert hint == "give the file another name"


@pytest.mark.parametrize("reference", ["", ":greet", "demo:"])
def test_a_name_without_module_or_workflow_is_refused(reference):
    assert refused(reference)[0] == f"{reference!r} names no workflow"


def test_the_command_says_all_that_in_two_lines(folder):
    result = folder.art("run", "demo:reveiw")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "error[usage]: module 'demo' has no attribute 'reveiw'",
        "hint: did you mean 'review'?; its workflows: event, five, flaky, greet, review, slow, timer",
    ]
    assert not (folder.path / "abstractruntime.db").exists()
