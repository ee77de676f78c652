"""Commands that evaluate models outside a run."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from tutelage.cli.shared import JsonOption, QuietOption, TrustRemoteCodeOption, app, say, show
from tutelage.errors import ConfigError


@app.command("eval")
def eval_command(
    models: Annotated[
        list[str],
        typer.Argument(
            help="Folders or names of models, or run folders: all students of a run, its teacher,"
            " and the student before."
        ),
    ],
    suite: Annotated[
        str, typer.Option(help="Suites to ask, as in --suite gsm8k,arc; see `tutelage suites`.")
    ],
    data: Annotated[
        list[str] | None,
        typer.Option(
            help="The suite's file; with several suites SUITE=FILE. Several files for one suite are"
            " several sets of questions, called by NAME=FILE or as their files."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="An option of a suite, as in --set gsm8k.shots=4, of all, as in --set"
            " precision=bfloat16, or of the server, as in --set engine.key_env=MY_KEY.",
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Ask the first so many questions.")] = None,
    server: Annotated[
        str | None,
        typer.Option(help="Ask models that run there: the URL of an OpenAI-compatible server."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Where results are written.")] = Path("evals"),
    execute_code: Annotated[
        bool,
        typer.Option("--execute-code", help="Run programs that models write, in a sandbox."),
    ] = False,
    dtype: Annotated[
        str, typer.Option(help="Type of the weights in memory: float32, bfloat16, float16, auto.")
    ] = "float32",
    trust_remote_code: TrustRemoteCodeOption = False,
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Evaluate models with suites of questions.

    Several models are compared pair by pair.

    The same command again continues where it was cut off, and asks nothing twice.
    """
    suites, settings = chosen_suites(suite, data or [], set_ or [], limit, execute_code)
    from dataclasses import asdict

    from tutelage.pipeline.evals import PAGE, evaluate_models

    results = evaluate_models(
        models,
        suites,
        settings,
        out=out,
        server=None if server is None else {"base_url": server},
        dtype=dtype,
        trust_remote_code=trust_remote_code,
        quiet=quiet or json_,
    )
    if json_:
        typer.echo(json.dumps([asdict(result) for result in results], indent=2, default=str))
        return
    from tutelage.report.evaluation_table import evaluations_table

    show(evaluations_table(results))
    say(f"answers: {out}")
    say(f"report:  {out / PAGE}")


@app.command("suites")
def suites_command(json_: JsonOption = False) -> None:
    """List the suites: name, one line, paper, options."""
    from tutelage.catalogue import catalogue, catalogue_text

    listed = catalogue("suites")
    typer.echo(json.dumps(listed, indent=2) if json_ else catalogue_text(listed))


def chosen_suites(
    names: str, data: list[str], set_: list[str], limit: int | None, execute_code: bool
) -> tuple[list[dict[str, Any]], list[str]]:
    """The suites that a command line names, as in a recipe, and the settings of all of them.

    Args:
        names: separated by commas.
        data: ``FILE``; ``SUITE=FILE`` where there are several suites; for one suite what stands
            before the ``=`` is what the file is called.
        set_: ``NAME.option=value`` for a suite that is named, ``engine.option=value``, else
            ``key=value`` of a recipe's ``evaluation`` section.
        limit: ask so many.
        execute_code: the user lets programs run.

    Raises:
        ConfigError: a file without a suite.
    """
    kinds = [name.strip() for name in names.split(",") if name.strip()]
    files = _files(kinds, data)
    from tutelage.families import table_of
    from tutelage.recipe.nodes import parse

    known = table_of("suite")
    suites = []
    for kind in kinds:
        for label, file in files[kind] or [("", "")]:
            one: dict[str, Any] = {"kind": kind}
            if file:
                one["data"] = str(Path(file).expanduser())
            if label or len(files[kind]) > 1:
                one["name"] = f"{kind}-{label or Path(file).name.partition('.')[0]}"
            if execute_code and kind in known and "execute_code" in known[kind].options:
                one["execute_code"] = True
            suites.append(one)
    settings = []
    for setting in set_:
        key, _, value = setting.partition("=")
        kind, _, option = key.strip().partition(".")
        meant = [one for one in suites if kind in (one["kind"], one["kind"].partition(":")[0])]
        if option and meant:
            given = parse(value, f"--set {key}", lines=False).plain
            for one in meant:
                one[option] = given
        elif kind == "engine":
            settings.append(setting)
        else:
            settings.append(f"evaluation.{setting}")
    if limit is not None:
        settings.append(f"evaluation.limit={limit}")
    return suites, settings


def _files(kinds: list[str], data: list[str]) -> dict[str, list[tuple[str, str]]]:
    """By suite its files, each with what the user calls it; empty for no name."""
    files: dict[str, list[tuple[str, str]]] = {kind: [] for kind in kinds}
    for said in data:
        before, _, file = said.rpartition("=")
        if before in files:
            files[before].append(("", file))
        elif len(kinds) == 1:
            files[kinds[0]].append((before, file))
        else:
            raise ConfigError(
                f"--data {said} does not say which of the suites {', '.join(kinds)} it is for."
                f" Write --data {kinds[0]}={file}."
            )
    return files


@app.command("judge")
def judge_command(
    first: Annotated[
        Path,
        typer.Argument(
            help="Answers of the model whose win rate is wanted: MODEL/SUITE of `eval`, or"
            " arms/NAME/evaluation of a run."
        ),
    ],
    second: Annotated[Path, typer.Argument(help="Answers of the model that it is held against.")],
    model: Annotated[
        str, typer.Option(help="The judge: its name on the server, or a model to be run here.")
    ],
    server: Annotated[
        str | None, typer.Option(help="URL of an OpenAI-compatible server that runs the judge.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="Judge the first so many questions.")] = None,
    one_order: Annotated[
        bool, typer.Option("--one-order", help="Show each pair once: half the cost, and a bias.")
    ] = False,
    max_new_tokens: Annotated[int, typer.Option(help="Longest reasoning and verdict.")] = 1024,
    price_in: Annotated[float, typer.Option(help="Of a million tokens that it reads.")] = 0.0,
    price_out: Annotated[float, typer.Option(help="Of a million tokens that it writes.")] = 0.0,
    spending_limit: Annotated[
        float | None, typer.Option(help="Stop before this would be passed.")
    ] = None,
    estimate: Annotated[
        bool, typer.Option("--estimate", help="Say what it would take, and ask nobody.")
    ] = False,
    out: Annotated[
        Path, typer.Option(help="Where verdicts are kept and the report is written.")
    ] = Path("evals"),
    json_: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Let a judge say whose answers are better.

    Pair by pair, and in both orders.

    What it said is kept: the same pair is never paid for twice.
    """
    from tutelage.evaluation.judge import JudgeSettings
    from tutelage.pipeline.judging import judge_answers
    from tutelage.report.judged import judged_lines

    found = judge_answers(
        first,
        second,
        model,
        JudgeSettings(
            both_orders=not one_order,
            max_new_tokens=max_new_tokens,
            price_in=price_in,
            price_out=price_out,
            spending_limit=spending_limit,
        ),
        server=None if server is None else {"base_url": server},
        limit=limit,
        out=out,
        estimate_only=estimate,
        quiet=(quiet or json_) and not estimate,
    )
    if found.report is None:
        return
    if json_:
        typer.echo(json.dumps(found.report.as_json(), indent=2))
        return
    for line in judged_lines(found.first, found.second, found.report):
        say(line)
    say(f"report: {found.path}")
