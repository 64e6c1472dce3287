"""Propose settings for one optimizer from those of another, by published ratios only.

A proposal is a starting point for a search, not its result: a ratio is what its authors found on
their own runs. If no ratio has been published, nothing is proposed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ftreg.config.optimizer import OPTIMIZERS, OptimizerConfig, schema_of
from ftreg.errors import UsageError, did_you_mean

CHEN = "Chen et al. 2023, arXiv 2302.06675, section 5"
LOSHCHILOV = "Loshchilov and Hutter 2019, arXiv 1711.05101"
TORCH = "torch's default"
LIU = "Liu et al. 2025, arXiv 2502.16982, section 2.2"
DEFAZIO = "the authors of arXiv 2405.15682, github.com/facebookresearch/schedule_free"
AS_ADAMW = "the same rule as AdamW's"

# Chen et al. give 3 to 10. The proposal is 5: a round number near the geometric mean of the range
# (5.5), so that neither end is more than a factor of two away, and the value in configs/lion.yaml.
_LEAST, _PROPOSED, _MOST = 3.0, 5.0, 10.0
# The pairs of betas that Chen et al. compared: for everything except language, and for language.
_BETAS = (((0.9, 0.999), (0.9, 0.99)), ((0.9, 0.99), (0.95, 0.98)))

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Setting:
    """One proposed setting: value before, proposal, both ends of the published range, and source.

    `before` is None if the source has no such setting; `ends` is None if there is no range.
    """

    key: str
    before: Any
    proposed: Any
    ends: Range | None
    source: str


@dataclass(frozen=True, slots=True)
class Conversion:
    """A proposal for another optimizer.

    `carried` are settings that both have and that keep their value; `dropped` are non-default
    settings of the source that the target does not have; `notes` are sentences.
    """

    source: str
    target: str
    settings: tuple[Setting, ...]
    carried: dict[str, Any]
    dropped: dict[str, Any]
    notes: tuple[str, ...]

    @property
    def section(self) -> dict[str, Any]:
        """The proposed `optimizer:` section, as YAML data."""
        proposed = {setting.key: setting.proposed for setting in self.settings}
        return {"name": self.target, **proposed, **self.carried}


def convert(config: OptimizerConfig, *, to: str) -> Conversion:
    """Propose another optimizer's settings.

    Raises:
        UsageError: there is no such optimizer, no ratio is published for this pair, or the ratio
            does not hold for a setting of the source.
    """
    if to not in OPTIMIZERS:
        hint = did_you_mean(to, OPTIMIZERS)
        known = ", ".join(OPTIMIZERS)
        raise UsageError(f"--to: {to!r} is not an optimizer{hint} (known: {known})")
    if to == config.name:
        raise UsageError(f"--to: the configuration already uses {to}; there is nothing to convert")
    rule = _RULES.get((config.name, to))
    if rule is None:
        raise UsageError(
            f"no ratio from {config.name} to {to} is published, so none is proposed: search "
            "its optimizer.lr over decades, on the held-out split. Known pairs: "
            f"{', '.join(f'{source} to {target}' for source, target in _RULES)}"
        )
    target = schema_of(to)
    proposal = rule(config)
    # Muon's settings for AdamW's part correspond to the source's settings without that prefix.
    handled = {"name", *(setting.key.removeprefix("adamw_") for setting in proposal.settings)}
    changed = {
        key: getattr(config, key)
        for key, info in type(config).model_fields.items()
        if key not in handled and getattr(config, key) != info.default
    }
    dropped = {key: value for key, value in changed.items() if key not in target.model_fields}
    if dropped.get("maximize"):
        raise UsageError(
            f"optimizer.maximize: {to} has no such setting, and without it the run would descend "
            "instead of ascending"
        )
    conversion = Conversion(
        source=config.name,
        target=to,
        settings=proposal.settings,
        carried={key: value for key, value in changed.items() if key not in dropped},
        dropped=dropped,
        notes=proposal.notes,
    )
    target.model_validate(conversion.section)
    return conversion


@dataclass(frozen=True, slots=True)
class _Proposal:
    settings: tuple[Setting, ...]
    notes: tuple[str, ...]


def _adamw_to_lion(config: OptimizerConfig) -> _Proposal:
    """Divide lr by 3 to 10 and multiply the decay by as much: their product is the effective decay.

    Lion moves every weight by lr at each step, AdamW by less.
    """
    notes = [
        "lr and weight_decay move together: keep lr * weight_decay when you search lr",
        "Chen et al. find that Lion's gain over AdamW grows with the batch size",
    ]
    return _Proposal(
        (
            _scaled(config, "lr", 1 / _PROPOSED, 1 / _MOST, 1 / _LEAST),
            _scaled(config, "weight_decay", _PROPOSED, _LEAST, _MOST),
            _paired_betas(config, dict(_BETAS), target="lion", notes=notes),
        ),
        tuple(notes),
    )


def _lion_to_adamw(config: OptimizerConfig) -> _Proposal:
    """Apply the same ratios in reverse."""
    # The ratio was not measured with other forms of Lion's decay.
    off = {"weight_decouple": False, "fixed_decay": True}
    for key, value in off.items():
        if config.weight_decay > 0 and getattr(config, key) is value:
            raise UsageError(
                f"optimizer.{key}: the published ratio is for Lion's decay as in the paper, "
                f"decoupled and scaled by lr; there is none for {key}: {str(value).lower()}. Leave "
                f"{key} out, or set weight_decay: 0"
            )
    notes = ["lr and weight_decay move together: keep lr * weight_decay when you search lr"]
    back = {lion: adamw for adamw, lion in _BETAS}
    return _Proposal(
        (
            _scaled(config, "lr", _PROPOSED, _LEAST, _MOST),
            _scaled(config, "weight_decay", 1 / _PROPOSED, 1 / _MOST, 1 / _LEAST),
            _paired_betas(config, back, target="adamw", notes=notes),
        ),
        tuple(notes),
    )


def _adamw_to_muon(config: OptimizerConfig) -> _Proposal:
    """Keep lr and decay, with the scaling that makes Muon's steps as large as AdamW's."""
    values = {key: getattr(config, key) for key in ("lr", "weight_decay", "eps")}
    values["betas"] = list(_betas(config))
    return _Proposal(
        (
            *(Setting(key, values[key], values[key], None, LIU) for key in ("lr", "weight_decay")),
            Setting("adjust_lr_fn", None, "match_rms_adamw", None, LIU),
            *(Setting(f"adamw_{key}", values[key], values[key], None, AS_ADAMW) for key in values),
        ),
        ("the ratio is from pretraining; for fine-tuning see `ftreg optim show` of muon",),
    )


def _adamw_to_schedule_free(config: OptimizerConfig) -> _Proposal:
    """Multiply lr by 1 to 10, and drop the schedule; the rest is as for AdamW.

    The proposal is 3, a round number near the geometric mean of the range.
    """
    if _betas(config)[0] == 0:
        raise UsageError(
            "optimizer.betas: schedule_free_adamw has no average with a beta1 of 0; leave betas out"
        )
    decay = config.weight_decay
    return _Proposal(
        (
            _scaled(config, "lr", 3, 1, 10, source=DEFAZIO),
            Setting("weight_decay", decay, decay, None, AS_ADAMW),
        ),
        ("also set schedule.name: constant; schedule.warmup stays",),
    )


def _between_adams(config: OptimizerConfig) -> _Proposal:
    """Keep lr and betas, and reset the decay: the two differ only in the decay.

    Without decay the two take the same steps, so a decay of 0 stays 0.
    """
    to_adamw = config.name == "adam"
    decay = config.weight_decay
    default = float(schema_of("adamw").model_fields["weight_decay"].default)
    proposed, source = 0.0, LOSHCHILOV
    if decay == 0:
        note = "without decay adam and adamw are the same rule, so weight_decay stays 0" + (
            f"; torch's default for adamw is {default:g}" if to_adamw else ""
        )
    else:
        if to_adamw:
            proposed, source = default, TORCH
        note = (
            f"weight_decay {decay:g} does not carry over: adam's is L2, which is divided by the "
            "square root of the second moment, adamw's is not, so no factor converts one into the "
            "other; " + ("the proposal is torch's default" if to_adamw else "no decay is proposed")
        )
    return _Proposal(
        (
            Setting("lr", config.lr, config.lr, None, LOSHCHILOV),
            Setting("weight_decay", decay, proposed, None, source),
            Setting("betas", list(_betas(config)), list(_betas(config)), None, LOSHCHILOV),
        ),
        (note,),
    )


def _scaled(
    config: OptimizerConfig,
    key: str,
    proposed: float,
    least: float,
    most: float,
    *,
    source: str = CHEN,
) -> Setting:
    value = float(getattr(config, key))
    ends = (_round(value * least), _round(value * most))
    return Setting(key, value, _round(value * proposed), ends, source)


def _round(value: float) -> float:
    """Round off the division's error: 1e-4 / 5 is 2e-05, not 2.0000000000000002e-05."""
    return float(f"{value:.6g}")


def _betas(config: OptimizerConfig) -> tuple[float, float]:
    # Each optimizer's schema has different fields; those passed here have betas.
    first, second = config.arguments["betas"]
    return float(first), float(second)


def _paired_betas(
    config: OptimizerConfig,
    pairs: dict[tuple[float, float], tuple[float, float]],
    *,
    target: str,
    notes: list[str],
) -> Setting:
    held = _betas(config)
    if held in pairs:
        return Setting("betas", list(held), list(pairs[held]), None, CHEN)
    default = schema_of(target).model_fields["betas"].default
    notes.append(
        f"betas {list(held)} have no published counterpart; the proposal is {target}'s default"
    )
    return Setting("betas", list(held), list(default), None, CHEN if target == "lion" else TORCH)


_RULES: dict[tuple[str, str], Callable[[OptimizerConfig], _Proposal]] = {
    ("adamw", "lion"): _adamw_to_lion,
    ("adamw", "muon"): _adamw_to_muon,
    ("adamw", "schedule_free_adamw"): _adamw_to_schedule_free,
    ("lion", "adamw"): _lion_to_adamw,
    ("adam", "adamw"): _between_adams,
    ("adamw", "adam"): _between_adams,
}
