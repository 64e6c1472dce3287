"""The optimizer section: one closed, typed schema per optimizer.

A parameter that the chosen optimizer does not take is an error, never ignored. Defaults are those
of the underlying class, except that `lr` has none: the user must always choose it.
"""

from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, field_validator

from ftreg.config.base import Options, Section

Positive = Annotated[float, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[tuple[Beta, Beta], Field(strict=False)]  # YAML has lists, not tuples

# Keys that control how ftreg builds the optimizer; the others are its arguments.
_OWN_KEYS = frozenset({"name", "path", "options", "decay_norms_and_biases", "decay_embeddings"})


class OptimizerConfig(Section):
    """Name and hyperparameters of an optimizer; calling it returns the schema of that `name`.

    `OptimizerConfig(name="lion", lr=1e-4)` returns a `LionConfig`.

    Raises:
        pydantic.ValidationError: an unknown name, an argument that this optimizer does not take,
            or a value out of range.
    """

    name: str
    """Which optimizer: adafactor, adagrad, adam, adamw, lion, muon, rmsprop, schedule_free_adamw,
    sgd, or custom."""
    lr: Positive
    """Peak learning rate, above 0."""
    weight_decay: NonNegative = 0.0
    """Decay coefficient, L2 or decoupled depending on the optimizer. Applies to decayed groups
    only."""
    decay_norms_and_biases: bool = False
    """Apply weight decay to norms, biases and other one-dimensional parameters too."""
    decay_embeddings: bool = True
    """Apply weight decay to embeddings (and a head tied to them)."""

    def __new__(cls, /, **values: Any) -> "OptimizerConfig":
        """Select the schema of `name` when the base class is called."""
        chosen = _SCHEMAS.get(values.get("name", "")) if cls is OptimizerConfig else None
        return super().__new__(chosen or cls)

    def __init__(self, /, **values: Any) -> None:
        if type(self) is OptimizerConfig:
            # No schema has this name: the union's error lists the names.
            _UNION.validate_python(values)
        super().__init__(**values)

    @property
    def arguments(self) -> dict[str, Any]:
        """All arguments for the optimizer's constructor, including defaults."""
        return {key: value for key, value in self.model_dump().items() if key not in _OWN_KEYS}

    @property
    def decay_coupling(self) -> str:
        """`"coupled"` (L2: the decay is added to the gradient) or `"decoupled"`."""
        return "coupled"


class _TorchConfig(OptimizerConfig):
    maximize: bool = False
    """Ascend instead of descend."""
    foreach: bool | None = None
    """Use torch's multi-tensor implementation; null leaves the choice to ftreg."""
    differentiable: bool = False
    """Let autograd run through the step."""


class SGDConfig(_TorchConfig):
    """Stochastic gradient descent (torch.optim.SGD)."""

    name: Literal["sgd"] = "sgd"
    momentum: NonNegative = 0.0
    """Momentum factor."""
    dampening: float = 0.0
    """Dampening of the momentum."""
    nesterov: bool = False
    """Nesterov momentum (needs momentum above 0 and dampening 0)."""
    fused: bool | None = None
    """Use torch's fused step; null means where this build and device have one."""


class AdagradConfig(_TorchConfig):
    """AdaGrad (torch.optim.Adagrad; Duchi et al. 2011)."""

    name: Literal["adagrad"] = "adagrad"
    lr_decay: NonNegative = 0.0
    """Step t uses lr / (1 + (t-1) * lr_decay)."""
    initial_accumulator_value: NonNegative = 0.0
    """Start of the sum of squared gradients; at 0 the first step is +-lr for any gradient."""
    eps: NonNegative = 1e-10
    """Added outside the root."""
    fused: bool | None = None
    """Use torch's fused step; null means where this build and device have one."""


class AdafactorConfig(OptimizerConfig):
    """Adafactor, with a second moment factored into a row and a column (torch.optim.Adafactor).

    Shazeer and Stern 2018, arXiv 1804.04235.
    """

    name: Literal["adafactor"] = "adafactor"
    beta2_decay: Annotated[float, Field(le=0)] = -0.8
    """The second moment of step t weights the new gradient by t to this power."""
    eps: Annotated[tuple[NonNegative | None, NonNegative], Field(strict=False)] = (None, 1e-3)
    """Minimum root of the second moment (null: the epsilon of the dtype), and minimum root mean
    square assumed for a tensor's weights."""
    d: Annotated[float, Field(ge=1)] = 1.0
    """A step's root mean square is clipped to this before scaling."""
    foreach: bool | None = None
    """Use torch's multi-tensor implementation; null and false use less memory."""
    maximize: bool = False
    """Ascend instead of descend."""

    @property
    def decay_coupling(self) -> str:
        """Decoupled: each step first multiplies the weights by 1 - lr * weight_decay."""
        return "decoupled"


class _AdamFamily(_TorchConfig):
    betas: Betas = (0.9, 0.999)
    """Decay rates of the first and second moment."""
    eps: NonNegative = 1e-8
    """Added to the root of the second moment."""
    amsgrad: bool = False
    """Keep the maximum of the second moment."""
    capturable: bool = False
    """Safe to capture in a CUDA graph."""
    fused: bool | None = None
    """Use torch's fused step; null means where this build and device have one."""


class AdamConfig(_AdamFamily):
    """Adam with L2 regularisation (torch.optim.Adam; Kingma and Ba 2015)."""

    name: Literal["adam"] = "adam"


class AdamWConfig(_AdamFamily):
    """AdamW, decay decoupled from the gradient (torch.optim.AdamW; Loshchilov and Hutter 2019)."""

    name: Literal["adamw"] = "adamw"
    weight_decay: NonNegative = 0.01
    """Decoupled: each step first multiplies the weights by 1 - lr * weight_decay."""

    @property
    def decay_coupling(self) -> str:
        """Decoupled by definition."""
        return "decoupled"


class LionConfig(OptimizerConfig):
    """Lion (pytorch_optimizer.Lion; Chen et al. 2023, arXiv 2302.06675)."""

    name: Literal["lion"] = "lion"
    betas: Betas = (0.9, 0.99)
    """Interpolation for the update's sign, and decay rate of the momentum."""
    weight_decouple: bool = True
    """Decoupled decay as in the paper; false adds the decay to the gradient (L2)."""
    fixed_decay: bool = False
    """Do not scale the decoupled decay by lr."""
    foreach: bool | None = None
    """Use the multi-tensor implementation; null leaves the choice to the library."""

    @property
    def decay_coupling(self) -> str:
        """Decoupled unless `weight_decouple` is off."""
        return "decoupled" if self.weight_decouple else "coupled"


class MuonConfig(OptimizerConfig):
    """Muon for hidden matrices (torch.optim.Muon; Jordan et al. 2024), AdamW for everything else.

    `lr`, `weight_decay` and keys without a prefix are Muon's.
    """

    name: Literal["muon"] = "muon"
    adamw_lr: Positive
    """Peak learning rate of the tensors trained by AdamW: embeddings, head, norms, biases."""
    weight_decay: NonNegative = 0.1
    """Decoupled, for the matrices: each step first multiplies them by 1 - lr * weight_decay."""
    momentum: Beta = 0.95
    """Decay rate of the gradients' moving average."""
    nesterov: bool = True
    """Nesterov momentum."""
    ns_coefficients: Annotated[tuple[float, float, float], Field(strict=False)] = (
        3.4445, -4.775, 2.0315,
    )  # fmt: skip
    """Coefficients of the Newton-Schulz iteration that orthogonalises the step."""
    ns_steps: Annotated[int, Field(ge=1, lt=100)] = 5
    """Number of its iterations."""
    eps: NonNegative = 1e-7
    """Minimum norm that a step is divided by before the iteration."""
    adjust_lr_fn: Literal["original", "match_rms_adamw"] = "original"
    """Scale of lr by a matrix's shape: original, the root of max(1, rows / columns); or
    match_rms_adamw, 0.2 times the root of its longer side, which suits the lr of AdamW."""
    adamw_weight_decay: NonNegative = 0.01
    """Decoupled, for AdamW's decayed group."""
    adamw_betas: Betas = (0.9, 0.999)
    """AdamW's decay rates of the first and second moment."""
    adamw_eps: NonNegative = 1e-8
    """Added to the root of AdamW's second moment."""

    @property
    def of_adamw(self) -> dict[str, Any]:
        """Settings that distinguish AdamW's parameter groups from Muon's, except weight decay."""
        return {"lr": self.adamw_lr, "betas": self.adamw_betas, "eps": self.adamw_eps}

    @property
    def decay_coupling(self) -> str:
        """Decoupled in both."""
        return "decoupled"


class RMSpropConfig(_TorchConfig):
    """RMSProp (torch.optim.RMSprop)."""

    name: Literal["rmsprop"] = "rmsprop"
    alpha: Beta = 0.99
    """Decay rate of the squared gradient."""
    eps: NonNegative = 1e-8
    """Added to the root."""
    momentum: NonNegative = 0.0
    """Momentum factor."""
    centered: bool = False
    """Normalise by an estimate of the variance."""
    capturable: bool = False
    """Safe to capture in a CUDA graph."""


class ScheduleFreeAdamWConfig(OptimizerConfig):
    """AdamW that averages its weights, without a schedule (pytorch_optimizer.ScheduleFreeAdamW).

    Defazio et al. 2024, arXiv 2405.15682. It requires `schedule.name: constant`; `schedule.warmup`
    is its warm-up.
    """

    name: Literal["schedule_free_adamw"] = "schedule_free_adamw"
    betas: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], Beta], Field(strict=False)
    ] = (0.9, 0.999)  # fmt: skip
    """Interpolation of the trained weights towards the average (above 0), and decay rate of the
    second moment."""
    eps: NonNegative = 1e-8
    """Added to the root of the second moment; the library adds 1e-15 under the root."""
    r: NonNegative = 0.0
    """Step t has weight t to this power in the average."""
    weight_lr_power: NonNegative = 2.0
    """The weight is also multiplied by the largest lr so far, to this power."""
    decoupling_c: Annotated[int, Field(ge=0)] = 0
    """Above 0, scales a step's weight in the average by this times 1 - beta1."""
    ams_bound: bool = False
    """Keep the maximum of the second moment."""
    maximize: bool = False
    """Ascend instead of descend."""
    foreach: bool | None = None
    """Use the multi-tensor implementation; null leaves the choice to the library."""

    @property
    def decay_coupling(self) -> str:
        """Decoupled: added after the division by the root of the second moment."""
        return "decoupled"


class CustomConfig(OptimizerConfig):
    """Any torch.optim.Optimizer class, by import path."""

    name: Literal["custom"] = "custom"
    path: str
    """Import path of the class: `my_package.optimizers:Sophia`."""
    options: Options = Field(default_factory=dict)
    """Its other arguments, passed through unchanged."""

    @field_validator("options")
    @classmethod
    def _own_keys_elsewhere(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key in ("lr", "weight_decay", "params"):
            if key in value:
                raise ValueError(f"{key} does not belong into options; set optimizer.{key} instead")
        return value

    @property
    def arguments(self) -> dict[str, Any]:
        """`lr`, `weight_decay` and the options."""
        return {"lr": self.lr, "weight_decay": self.weight_decay, **self.options}

    @property
    def decay_coupling(self) -> str:
        """Unknown to ftreg."""
        return "as the class has it"


AnyOptimizer = Annotated[
    SGDConfig
    | AdafactorConfig
    | AdagradConfig
    | AdamConfig
    | AdamWConfig
    | LionConfig
    | MuonConfig
    | RMSpropConfig
    | ScheduleFreeAdamWConfig
    | CustomConfig,
    Field(discriminator="name"),
]

_UNION: TypeAdapter[OptimizerConfig] = TypeAdapter(AnyOptimizer)
_SCHEMAS: dict[str, type[OptimizerConfig]] = {
    "adafactor": AdafactorConfig,
    "adagrad": AdagradConfig,
    "adam": AdamConfig,
    "adamw": AdamWConfig,
    "lion": LionConfig,
    "muon": MuonConfig,
    "rmsprop": RMSpropConfig,
    "schedule_free_adamw": ScheduleFreeAdamWConfig,
    "sgd": SGDConfig,
    "custom": CustomConfig,
}


OPTIMIZERS = tuple(_SCHEMAS)


def schema_of(name: str) -> type[OptimizerConfig]:
    """Return the schema of an optimizer, or the common part if the name is unknown."""
    return _SCHEMAS.get(name, OptimizerConfig)
