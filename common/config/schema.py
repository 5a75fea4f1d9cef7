"""The configuration tree. Defaults are the paper's (Tables 5-7, supplement A) unless a field says
otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from common.config.maze_map import maze_rows

Positive = Annotated[int, Field(gt=0)]
NonNegative = Annotated[int, Field(ge=0)]
PositiveFloat = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
MazeName = Literal["umaze", "medium", "large"]
Widths = Annotated[tuple[Positive, ...], Field(min_length=1)]


class _Section(BaseModel):
    """Frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PointMazeConfig(_Section):
    """Generated data: D4RL's waypoint controller in gymnasium-robotics' PointMaze."""

    kind: Literal["pointmaze"] = "pointmaze"
    maze: MazeName | tuple[str, ...] = "large"
    """One of D4RL's, or a map of your own: rows of `#` (wall), ` ` or `.` (free), one `G` (goal),
    and `R` where episodes start (none: in any free cell), or gymnasium-robotics' lists of cells."""
    steps: Positive = 1_000_000
    noise: Annotated[float, Field(ge=0)] = 0.5
    """Standard deviation of the Gaussian noise added to an action before it is clipped."""
    max_episode_steps: Positive | None = None
    """Time limit of an evaluation; None: D4RL's, or 300 in a maze of your own."""
    seed: NonNegative = 0

    @field_validator("maze", mode="before")
    @classmethod
    def _known_maze_or_map(cls, given: object) -> object:
        if isinstance(given, str):
            if given not in get_args(MazeName):
                raise ValueError(f"expected one of {', '.join(get_args(MazeName))}, or a map")
            return given
        return maze_rows(given)


class RandomWalkConfig(_Section):
    """Generated data: the one-dimensional random walk (supplement D)."""

    kind: Literal["random_walk"] = "random_walk"
    steps: Positive = 100_000
    seed: NonNegative = 0


class DataConfig(_Section):
    """What is learned from."""

    dataset: Annotated[str, Field(min_length=1)] = "D4RL/pointmaze/large-v2"
    """A Minari dataset id, or the path of a D4RL HDF5 file (ending in .hdf5 or .h5)."""
    download: bool = False
    """Fetch the Minari dataset when it is not on this machine."""
    observation_keys: tuple[str, ...] | None = None
    """Keys of a dictionary observation to concatenate, in this order; None: all of them, sorted."""
    goal_indices: tuple[NonNegative, ...] = ()
    """Entries of the flat state that a goal prescribes, in the goal's order (x and y in a maze);
    empty for a task without goals."""
    validation_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Share of the episodes kept from training and used to report validation losses."""
    generate: Annotated[PointMazeConfig | RandomWalkConfig, Field(discriminator="kind")] | None = (
        None
    )
    """Generate the dataset under the id `dataset` when it is not on this machine; `kind` says what
    (left out: `pointmaze`)."""

    @field_validator("generate", mode="before")
    @classmethod
    def _mazes_need_no_kind(cls, given: object) -> object:
        return {"kind": "pointmaze", **given} if isinstance(given, dict) else given


class TrainingConfig(_Section):
    """What all training stages share."""

    checkpoint_every: Positive = 500
    """Steps between resumable checkpoints."""
    keep_checkpoints: Positive = 2
    log_every: Positive = 50
    """Steps between rows of the metric logs."""
    validate_every: Positive = 500
    memory: Positive | None = None
    """MiB of data that a stage is trained from in memory; what is larger stays on disk and is read
    as it is needed. None: a quarter of the machine's memory."""


class VaeConfig(_Section):
    """The beta-VAE over windows (section 4.1, A.2.1, Table 5)."""

    encoder: Literal["gru", "mlp"] = "gru"
    """`gru`: 2 stacked bidirectional layers, the paper's; `mlp`: over the flattened window, 5-20
    times cheaper on a CPU."""
    latent_dim: Positive = 16
    hidden: Positive = 256
    decoder_hidden: Positive = 256
    beta: Annotated[float, Field(ge=0)] = 0.05
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    """Floor of the decoder's standard deviation; saturated actions would drive it to zero."""
    decoded_steps: Positive | None = None
    """Time steps of a window that enter the reconstruction term of one update, drawn at random and
    rescaled; None: all H."""
    learning_rate: PositiveFloat = 5e-5
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 128
    epochs: Positive = 100


class SamplingConfig(_Section):
    """How a prior is sampled; None leaves the choice to the model's own defaults."""

    solver: str | None = None
    steps: Positive | None = None
    """Denoising steps, at most the T of training."""
    guidance: Annotated[float, Field(ge=0)] | None = None
    """w of classifier-free guidance; 1 is the conditional model."""
    nulled: Literal["state", "goal", "both"] | None = None
    """What the unconditional half of guidance goes without; a prior without goals takes `state`
    only."""
    extra_steps: NonNegative | None = None
    """Diffusion-X: further denoising steps at t = 1 (supplement E)."""
    temperature: Annotated[float, Field(ge=0)] | None = None


class DiffusionConfig(_Section):
    """The latent diffusion prior (section 4.1, A.2.2, Table 6)."""

    steps: Annotated[int, Field(ge=2)] = 200
    """T; section 5.4 says 200, Table 6 says 500."""
    schedule: Literal["linear", "cosine"] = "linear"
    blocks: Widths = (128, 32, 16, 8, 16, 32, 128)
    """Widths of the residual blocks; equal widths are joined by skip connections from the outside
    in."""
    condition_dim: Positive = 128
    """Width of the state's encoding."""
    time_dim: Annotated[int, Field(ge=2, multiple_of=2)] = 256
    """Width of the sinusoidal embedding of t."""
    drop_probability: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that training nulls the state, for classifier-free guidance."""
    min_snr_gamma: PositiveFloat = 5.0
    clip_sample: PositiveFloat | None = None
    """Bound of the predicted z0 in standardised latents; None: unbounded."""


class GaussianConfig(_Section):
    """The conditional Gaussian prior of BCQ-H (section 5.3)."""

    hidden: Widths = (512, 512, 256)
    """Widths of the network; the default has about as many parameters as the default denoiser."""
    min_std: Annotated[float, Field(ge=0)] = 1e-3


class PriorConfig(_Section):
    """The latent prior p(z | s): which implementation, and how it is trained and sampled."""

    implementation: Annotated[str, Field(min_length=1)] = "diffusion"
    """A name registered in the entry-point group `ldcq.priors`: `diffusion`, `gaussian`, or a
    third party's."""
    diffusion: DiffusionConfig = DiffusionConfig()
    gaussian: GaussianConfig = GaussianConfig()
    goal_conditioned: bool = False
    """Learn p(z | s, goal) (LDGC, section 4.3); needs `data.goal_indices`."""
    goal_drop_probability: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Probability that training nulls the goal, apart from the state."""
    hindsight_steps: Positive | None = None
    """Training goals are states of the same episode at most this many steps after the window's end;
    None: up to the episode's end."""
    learning_rate: PositiveFloat = 1e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 32
    epochs: Positive = 300
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.995
    """Decay of the exponential moving average of the weights that is published; 0 publishes the
    last weights."""
    sampling: SamplingConfig = SamplingConfig(
        solver="ddpm", guidance=1.0, extra_steps=10, temperature=1.0
    )
    """What a request that sets nothing gets; `steps` None means all T."""


class ReplayConfig(_Section):
    """Prioritised experience replay (Table 7)."""

    alpha: Fraction = 0.7
    """Exponent of the priorities; 0 is uniform replay."""
    beta: Fraction = 0.3
    """Exponent of the importance weights at the start."""
    beta_growth: Annotated[float, Field(ge=0)] = 0.03
    beta_growth_every: Positive = 3000
    """Updates between growths of beta, up to 1."""


class CriticConfig(_Section):
    """Latent Q-learning (section 4.2, Algorithm 1, A.2.3, Table 7)."""

    hidden: Widths = (256, 256, 256, 32)
    fourier_octaves: NonNegative = 0
    """Frequencies (1, 2, 4, ... per standard deviation) of the sines and cosines that the networks
    see of `fourier_indices`, for values that change across a thin wall; 0: none, the paper's."""
    fourier_indices: tuple[NonNegative, ...] = ()
    """Entries of the flat state that get them: coordinates in space."""
    learning_rate: PositiveFloat = 5e-4
    batch_size: Positive = 128
    updates: Positive = 200_000
    target_update_rate: Rate = 0.005
    """Share of the online weights in target <- (1 - rate) target + rate online; the paper writes
    rho = 0.995 for 1 - rate."""
    reward_scale: PositiveFloat = 1.0
    """Rewards are multiplied by it inside the learner; published values are divided by it again."""
    replay: ReplayConfig = ReplayConfig()
    windows: Positive | None = None
    """Windows in the replay buffer, drawn at random from the training windows; None: all."""
    reward_windows: Fraction = 0.0
    """Share of `windows` drawn from those with a reward in them (all of those, where they are
    fewer); the rest come from the others. Updates are not weighted back."""
    candidates: Positive = 500
    """n, latents per next state in the target's max."""
    candidate_source: Literal["online", "cache"] = "online"
    """`online`: drawn anew for every update (Algorithm 1); `cache`: drawn once per next state and
    reused."""
    cached_candidates: Positive = 500
    """Latents kept per next state with `cache`, of which every update uses `candidates`, drawn at
    random."""
    calls_in_flight: Positive = 4
    """Sample calls under way at once; batches are drawn that many updates ahead."""
    sampling: SamplingConfig = SamplingConfig()

    @model_validator(mode="after")
    def _options_are_complete(self) -> CriticConfig:
        if self.fourier_octaves and not self.fourier_indices:
            raise ValueError(
                "fourier_indices is empty, expected entries of the state, since fourier_octaves "
                f"is {self.fourier_octaves}"
            )
        if self.reward_windows and self.windows is None:
            raise ValueError(
                f"windows is null, expected a number, since reward_windows is {self.reward_windows}"
            )
        return self

    @model_validator(mode="after")
    def _cache_holds_enough(self) -> CriticConfig:
        if self.candidate_source == "cache" and self.candidates > self.cached_candidates:
            raise ValueError(
                f"candidates is {self.candidates}, expected at most cached_candidates "
                f"({self.cached_candidates})"
            )
        return self


class WorldModelConfig(_Section):
    """The temporally abstract world model p(s_{t+H} | s_t, z) (supplement B)."""

    hidden: Widths = (256, 256, 256)
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 128
    epochs: Positive = 100


class BcConfig(_Section):
    """Behaviour cloning: a network pi(a | s) without latents, the paper's BC column."""

    hidden: Positive = 256
    min_std: Annotated[float, Field(ge=0)] = 1e-3
    learning_rate: PositiveFloat = 5e-4
    schedule: Literal["constant", "one_cycle"] = "constant"
    batch_size: Positive = 256
    epochs: Positive = 100


class PlanningConfig(_Section):
    """Planning with the world model (LDCP, Algorithm 2)."""

    depth: Positive = 2
    """d, latents in a row; n^d of them are compared."""
    candidates: Positive = 50
    """n, latents per state and level."""
    cost: Annotated[str, Field(min_length=1)] = "euclidean"
    """What a predicted state costs: `euclidean`, its distance to the goal, or a function of your
    own as `package.module:function`."""


class NearGoalConfig(_Section):
    """What changes near the goal."""

    distance: PositiveFloat
    """Euclidean, between the goal and the entries `data.goal_indices` of the raw state."""
    execute_steps: Positive
    """Steps of a latent that are executed there."""


class ActorConfig(_Section):
    """Policy execution (section 4.2)."""

    candidates: Positive = 500
    execute_steps: Positive | None = None
    """Steps of a latent that are executed before the next is chosen; None: all H."""
    near_goal: NearGoalConfig | None = None
    """Choose anew more often near the environment's goal; needs `data.goal_indices`."""
    sample_actions: bool = False
    """Draw actions from the decoder instead of taking its mode."""
    sampling: SamplingConfig = SamplingConfig()
    planning: PlanningConfig = PlanningConfig()


class MethodConfig(_Section):
    """One row of the scores: a policy over the models of a variant."""

    policy: Literal["ranked", "unranked", "planned", "cloned", "behaviour"]
    """`ranked`: the best candidate by the critic (LDCQ, BCQ-H); `unranked`: one prior sample (BC,
    or LDGC with a goal-conditioned prior); `planned`: the best by the world model (LDCP); `cloned`:
    the network of behaviour cloning; `behaviour`: what the dataset itself scores."""
    variant: str = "main"


class EvaluationConfig(_Section):
    """Rollouts and scores (section 5.4)."""

    methods: dict[str, MethodConfig] = {
        "ldcq": MethodConfig(policy="ranked"),
        "prior": MethodConfig(policy="unranked"),
        "behaviour": MethodConfig(policy="behaviour"),
    }
    episodes: Positive = 100
    environments: Positive = 50
    """Environments stepped side by side."""
    seed: NonNegative = 1000
    environment: str | None = None
    """A Gymnasium id; None: the evaluation environment recorded with the dataset."""
    reference_scores: tuple[float, float] | None = None
    """Returns that score 0 and 100; None: those recorded with the dataset."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    report: bool = True
    """Write the store's report.html after an evaluation."""
    video: bool = True


class Config(_Section):
    """Everything that decides a result. Where services listen and how many there are is not here:
    it decides none.
    """

    name: str = "paper"
    seed: NonNegative = 0
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 1
    """Threads of one process's tensor operations on a CPU."""
    horizon: Positive = 30
    """H, the steps of a window."""
    discount: Annotated[float, Field(gt=0, le=1)] = 0.995
    """gamma, per environment step."""
    data: DataConfig = DataConfig()
    training: TrainingConfig = TrainingConfig()
    vae: VaeConfig = VaeConfig()
    prior: PriorConfig = PriorConfig()
    critic: CriticConfig = CriticConfig()
    world_model: WorldModelConfig = WorldModelConfig()
    bc: BcConfig = BcConfig()
    actor: ActorConfig = ActorConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    variant: str = "main"
    """Which of the pipelines that share a store this is."""
    variants: dict[str, dict[str, object]] = {}
    """Pipelines to train beside the main one: for each, the keys it overrides (`{bcq_h:
    {prior.implementation: gaussian}}`)."""

    @model_validator(mode="after")
    def _fits_together(self) -> Config:
        if self.actor.execute_steps is not None and self.actor.execute_steps > self.horizon:
            raise ValueError(
                f"actor.execute_steps is {self.actor.execute_steps}, expected at most horizon "
                f"({self.horizon})"
            )
        if self.vae.decoded_steps is not None and self.vae.decoded_steps > self.horizon:
            raise ValueError(
                f"vae.decoded_steps is {self.vae.decoded_steps}, expected at most horizon "
                f"({self.horizon})"
            )
        if "main" in self.variants:
            raise ValueError(
                "variants.main is given, expected any other name: main is this configuration itself"
            )
        near = self.actor.near_goal
        if near is not None and not self.data.goal_indices:
            raise ValueError(
                "data.goal_indices is empty, expected the entries of the state that a goal "
                "prescribes, since actor.near_goal is set"
            )
        if near is not None and near.execute_steps > (self.actor.execute_steps or self.horizon):
            raise ValueError(
                f"actor.near_goal.execute_steps is {near.execute_steps}, expected at most "
                f"actor.execute_steps ({self.actor.execute_steps or self.horizon})"
            )
        if self.prior.goal_conditioned and not self.data.goal_indices:
            raise ValueError(
                "data.goal_indices is empty, expected the entries of the state that a goal "
                "prescribes, since prior.goal_conditioned is true"
            )
        known = {"main", self.variant, *self.variants}
        for name, method in self.evaluation.methods.items():
            if method.variant not in known:
                raise ValueError(
                    f"evaluation.methods.{name}.variant is {method.variant!r}, expected one of "
                    f"{sorted(known)}"
                )
        steps = self.prior.diffusion.steps
        for section, sampling in (
            ("prior", self.prior.sampling),
            ("critic", self.critic.sampling),
            ("actor", self.actor.sampling),
        ):
            if sampling.steps is not None and sampling.steps > steps:
                raise ValueError(
                    f"{section}.sampling.steps is {sampling.steps}, expected at most "
                    f"prior.diffusion.steps ({steps})"
                )
        return self
