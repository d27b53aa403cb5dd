"""What a diagnostic looks at: a trained model with its snapshots, and encoded views of the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from .encoding import IGNORED, Encoded, encode
from .evaluation import decode
from .interventions import BlockStates
from .models.anatomy import Anatomy
from .models.keeping import unlearned
from .noise import Labelled
from .splits import Data
from .statistics import cluster_codes, generator
from .tasks.example import Task

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from transformers import PreTrainedTokenizerBase

    from .spec.model import TaskSpec
    from .training.curve import Evaluation

PRE, POST = "pre_memorization", "post_memorization"


@dataclass(frozen=True)
class View:
    """n examples encoded twice: followed by the true answer, and by the label taught (or the phantom label).

    Attributes:
        name: ``noisy`` (memorised wrong labels), ``clean``, ``validation`` or ``selection``.
        labelled: the examples.
        true: teacher-forced with the true answers.
        taught: teacher-forced with the labels.
    """

    name: str
    labelled: Labelled
    true: Encoded
    taught: Encoded

    def __len__(self) -> int:
        return len(self.labelled)

    @cached_property
    def clusters(self) -> NDArray[np.int64]:
        """(n,) the cluster of each example, for intervals."""
        return cluster_codes([e.group for e in self.labelled.examples])

    @cached_property
    def places(self) -> dict[str, Tensor]:
        """Name -> (n,) token index: the named positions, ``last``, and ``answer_k``, which predicts answer token k."""
        counts = (self.true.targets != IGNORED).sum(1)
        later = range(1, int(counts.min()) if len(self) else 0)
        last = self.true.positions["last"]
        named = {name: at for name, at in self.true.positions.items() if name != "last"}
        return {**named, "last": last, **{f"answer_{k}": last + k for k in later}}

    def intermediate(self, name: str, values: Sequence[str]) -> NDArray[np.int64]:
        """(n,) the class index, among ``values``, of the named intermediate result."""
        index = {value: i for i, value in enumerate(values)}
        return np.array([index[e.intermediates[name]] for e in self.labelled.examples], dtype=np.int64)


@dataclass(frozen=True)
class Answers:
    """What a model says to n examples.

    Attributes:
        view: the examples.
        texts: the answers in words.
        right: (n,) whether each is the true answer.
        taught: (n,) whether each is the label taught, or the phantom label.
        broken: (n,) whether the model gave NaN in place of one.
    """

    view: View
    texts: Sequence[str]
    right: NDArray[np.bool_]
    taught: NDArray[np.bool_]
    broken: NDArray[np.bool_]


NO_TWIN = "there is no twin, the same cell without wrong labels, beside it: run it with --twin"


@dataclass(frozen=True)
class Twin:
    """The same cell without wrong labels, trained on the same examples.

    What is read of it is read when it is first asked for.

    Attributes:
        identity: hash of what decides its numbers, or of the weights where those alone were given.
        answer: gives (n,), whether it gives the true answer to each example of ``validation``.
        load: makes its model after training, of the subject's own architecture; None where that was not kept.

    Raises:
        UserError: when its files are not those of its report, or not of the same questions.
    """

    identity: str
    answer: Callable[[], NDArray[np.bool_]]
    load: Callable[[], Anatomy] | None

    @cached_property
    def right(self) -> NDArray[np.bool_]:
        """(n,) whether it gives the true answer to each example of ``validation``."""
        return self.answer()

    @cached_property
    def anatomy(self) -> Anatomy | None:
        """Its model after training."""
        return None if self.load is None else self.load()


@dataclass
class Subject:
    """A model under diagnosis.

    Attributes:
        spec, task, data: what it learned.
        tokenizer: the tokenizer of its inputs.
        anatomies: snapshot -> the model with that snapshot's weights, its structure found and proved.
        curve: the evaluations made during training.
        snapshots: name -> step, of a model that was trained here.
        without_pre: why there is no pre-memorization snapshot, where there is none.
        device: where the models live.
        cap: largest number of examples in a view.
        warn: where a diagnostic says what the reader of the report must know.
        twin: the same cell without wrong labels, where it was run beside this one.
        without_twin: why there is none, where there is none.
    """

    spec: TaskSpec
    task: Task
    data: Data
    tokenizer: PreTrainedTokenizerBase
    anatomies: Mapping[str, Anatomy]
    curve: Sequence[Evaluation]
    device: str
    cap: int = 1024
    batch_size: int = 512
    snapshots: Mapping[str, int] = field(default_factory=dict)
    without_pre: str = "there is no pre-memorization snapshot"
    warn: Callable[[str], None] = field(default=lambda text: None)

    twin: Twin | None = None
    without_twin: str = NO_TWIN

    _answers: dict[str, Answers] = field(default_factory=dict, init=False, repr=False, compare=False)
    _more: dict[int, View] = field(default_factory=dict, init=False, repr=False, compare=False)
    _states: dict[int, BlockStates] = field(default_factory=dict, init=False, repr=False, compare=False)

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator of its own for each purpose, from the bootstrap seed."""
        return generator(self.spec.seeds.bootstrap, purpose)

    def anatomy(self, snapshot: str = POST) -> Anatomy:
        """The model at a snapshot."""
        return self.anatomies[snapshot]

    @cached_property
    def noisy(self) -> View:
        """Training examples with a wrong label (D_n)."""
        return self._view("noisy", self.data.train.take(self.data.train.noisy[: self.cap]))

    @cached_property
    def clean(self) -> View:
        """Training examples with their true label (D_c), a random part of them."""
        noisy = set(self.data.train.noisy)
        rows = [i for i in range(len(self.data.train)) if i not in noisy][: self.cap]
        return self._view("clean", self.data.train.take(rows))

    def more_clean(self, n: int) -> View:
        """Up to n training examples with their true label, on which probes and erasers are fitted."""
        if n not in self._more:
            noisy = set(self.data.train.noisy)
            rows = [i for i in range(len(self.data.train)) if i not in noisy][:n]
            self._more[n] = self._view("clean", self.data.train.take(rows))
        return self._more[n]

    def states(self, view: View, positions: Tensor) -> Iterator[Tensor]:
        """What each block gives on a view of this subject's, with true answers; as ``BlockStates.at``, read once."""
        ids = view.true.input_ids
        if id(ids) not in self._states:
            self._states[id(ids)] = BlockStates(self.anatomy(), ids, batch_size=self.batch_size)
        return self._states[id(ids)].at(positions)

    def random_anatomy(self) -> Anatomy:
        """The same architecture with weights that never learned anything: the floor of every probe."""
        anatomy = self.anatomy()
        return anatomy.on(unlearned(anatomy.model, self.spec.seeds.init + 1))

    @cached_property
    def validation(self) -> View:
        """Held-out examples that are reported (V); ``taught`` holds their phantom labels."""
        return self._view("validation", self.data.validation.take(range(min(self.cap, len(self.data.validation)))))

    @cached_property
    def selection(self) -> View:
        """Held-out examples on which anything that must be chosen is chosen."""
        return self._view("selection", self.data.selection.take(range(min(self.cap, len(self.data.selection)))))

    def encode_views(self) -> None:
        """Encode the views now, for processes forked from this one that would each do it again."""
        for view in (self.noisy, self.clean, self.validation, self.selection):
            view.places  # noqa: B018
            view.clusters  # noqa: B018

    def all_of(self, name: str) -> View:
        """All of the ``validation``, ``ood`` or ``noisy`` examples, without the cap."""
        if name in ("validation", "ood"):
            return self._view(name, self.data.validation if name == "validation" else self.data.ood)
        return self._view(name, self.data.train.take(self.data.train.noisy))

    def answers(self, name: str) -> Answers:
        """What the model says to all examples of ``all_of`` that name, asked once."""
        if name not in self._answers:
            view = self.all_of(name) if name in ("validation", "ood", "noisy") else self.clean
            found = decode(self.anatomy().model, self.tokenizer, (view.true, view.taught), batch_size=self.batch_size)
            texts, (right, taught), broken = found
            self._answers[name] = Answers(view, tuple(texts), right.numpy(), taught.numpy(), broken.numpy())
        return self._answers[name]

    def _view(self, name: str, labelled: Labelled) -> View:
        if len(labelled) == 0:
            none, last = torch.empty(0, 0, dtype=torch.long), torch.empty(0, dtype=torch.long)
            empty = Encoded(none, none, {"last": last}).to(self.device)
            return View(name, labelled, empty, empty)
        true = encode(self.tokenizer, labelled.examples).to(self.device)
        taught = encode(self.tokenizer, labelled.examples, labelled.labels).to(self.device)
        return View(name, labelled, true, taught)
