"""`alignway export`: a model, or base plus adapter, in the few bits that an engine serves it in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

import typer

from alignment.commands.options import (
    HubOption,
    JsonOption,
    ModelOption,
    find_model,
    print_json,
    refusal,
    refuse_occupied,
    told,
)
from alignment.export.order import CALIBRATED, Scheme

if TYPE_CHECKING:
    from alignment.export.order import ExportResult

_WORTH_A_WARNING = 0.10
_SCHEMES: dict[str, Scheme] = {name: name for name in get_args(Scheme)}


def export(
    out: Annotated[Path, typer.Option("--out", help="Folder for the exported model; must not exist, or be empty.")],
    scheme: Annotated[str, typer.Option("--quantize", help="w4a16, gptq, awq, fp8, or none for a plain copy.")],
    model: ModelOption = "smollm2-135m-instruct",
    adapter: Annotated[Path | None, typer.Option("--adapter", help="LoRA adapter to merge in first.")] = None,
    dataset: Annotated[
        Path | None, typer.Option("--dataset", help="Texts to calibrate gptq or awq with, JSON Lines; default: ours.")
    ] = None,
    max_perplexity_rise: Annotated[
        float, typer.Option(min=0, help="Keep nothing if perplexity rises by more than this share.")
    ] = 0.5,
    export_python: Annotated[
        Path | None,
        typer.Option(
            envvar="ALIGNWAY_EXPORT_PYTHON",
            help="Python that has llm-compressor; default: .venv-export beside this environment.",
        ),
    ] = None,
    hub: HubOption = "huggingface",
    as_json: JsonOption = False,
) -> None:
    """Quantise with llm-compressor for vLLM and LMDeploy, and measure on fixed text what it costs."""
    if scheme != "none" and scheme not in _SCHEMES:
        raise refusal(f"--quantize is {', '.join(_SCHEMES)} or none, not {scheme}")
    if dataset is not None and scheme not in CALIBRATED:
        raise refusal(f"--quantize {scheme} looks at no data; leave --dataset out, or take gptq or awq")
    refuse_occupied(out)
    with told():
        from alignment.export.environment import find_python
        from alignment.export.steps import ExportJob
        from alignment.export.steps import export as export_job

        python = None if scheme == "none" else find_python(export_python)
        folder = find_model(model, hub)
        job = ExportJob(folder, adapter, out, _SCHEMES.get(scheme), dataset, max_perplexity_rise)
        result = export_job(job, python)
    if as_json:
        print_json({"folder": str(out.resolve()), **result.model_dump(mode="json"), "perplexity_rise": result.rise})
    else:
        _tell(result, out)
    if result.rise > _WORTH_A_WARNING:
        typer.echo(f"warning: perplexity rose by {result.rise:.1%}; try the model before you serve it", err=True)


def _tell(result: "ExportResult", out: Path) -> None:
    typer.echo(f"Exported {result.size_bytes / 1e6:.0f} MB to {out}")
    if result.perplexity_before is not None and result.perplexity_after is not None:
        typer.echo(
            f"Perplexity on fixed text, float32: {result.perplexity_before:.2f} before, "
            f"{result.perplexity_after:.2f} after {result.scheme} ({result.rise:+.1%})"
        )
    typer.echo(f"Next: alignway up --model {out}")
