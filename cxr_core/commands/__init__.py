"""The commands, one module each: what they take, whom they call, what they print.

Whatever is heavy is imported inside a command, so that `--help` answers at once.
"""

from cxr_core.commands.check import add_check
from cxr_core.commands.evaluate import add_evaluate
from cxr_core.commands.explain import add_explain
from cxr_core.commands.faithfulness import add_faithfulness
from cxr_core.commands.fetch import add_fetch
from cxr_core.commands.folders import add_index, add_shards
from cxr_core.commands.listen import add_listen
from cxr_core.commands.models import add_list
from cxr_core.commands.monitor import add_monitor
from cxr_core.commands.output import Commands
from cxr_core.commands.predict import add_predict
from cxr_core.commands.records import add_records
from cxr_core.commands.reference import add_reference
from cxr_core.commands.repeatability import add_repeatability
from cxr_core.commands.report import add_report
from cxr_core.commands.screen import add_screen
from cxr_core.commands.serve import add_serve
from cxr_core.commands.train import add_train


def add_commands(commands: Commands) -> None:
    """Add every command, in the order of `--help`."""
    add_list(commands)
    add_predict(commands)
    add_screen(commands)
    add_explain(commands)
    add_report(commands)
    add_index(commands)
    add_shards(commands)
    add_train(commands)
    add_evaluate(commands)
    add_check(commands)
    add_monitor(commands)
    add_serve(commands)
    add_listen(commands)
    add_fetch(commands)
    add_records(commands)
    add_faithfulness(commands)
    add_reference(commands)
    add_repeatability(commands)
