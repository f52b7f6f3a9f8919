"""What the attention selects is drawn as it was traced, layer by layer, with the shares selected and saved."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from matplotlib.figure import Figure
from PIL import Image

from mesm_data.dataset.reader import Dataset
from mesm_data.errors import DataError
from mesm_model.cli import main
from mesm_model.prediction import attention_maps
from mesm_model.prediction.attention_maps import _verdict, draw, explain, explain_each_emotion
from mesm_model.prediction.overlay import selected_share
from mesm_model.prediction.predict import Model, load_model
from mesm_model.runs.checkpoint import CheckpointError
from tests.data.synthetic_rows import EMOTIONS, synthetic_rows
from tests.model.filmed import write_filmed
from tests.model.untrained import write_run

ID = "Ses01F_impro01_F002"


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_filmed(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def run(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("runs") / "mesm", dataset, top_p=0.5)


@pytest.fixture
def model(run: Path) -> Model:
    return load_model(run)


def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Everything that the next figure says, once it is saved."""
    said: list[str] = []
    save = Figure.savefig

    def listening(figure: Figure, *arguments: object, **options: object) -> None:
        said.extend(text.get_text() for text in figure.findobj(lambda part: hasattr(part, "get_text")))  # type: ignore[attr-defined]
        save(figure, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", listening)
    return said


# ---- what is looked at


def test_utterances_are_looked_at_as_they_are_in_the_dataset(dataset: Dataset, model: Model) -> None:
    found = explain(dataset, model, [ID, "Ses01F_impro01_F000"])
    assert [one.utterance.id for one in found] == [ID, "Ses01F_impro01_F000"]
    row = synthetic_rows()[2]
    np.testing.assert_array_equal(found[0].clip.faces, row.clip.faces)
    assert found[0].utterance.text == row.utterance.text
    assert {(level.modality, level.level, len(level.selected)) for level in found[0].output.levels} == {
        (letter, layer, frames) for letter, frames in (("v", 3), ("a", 4)) for layer in (1, 2, 3)
    }


def test_a_smaller_p_keeps_fewer_places(dataset: Dataset, run: Path) -> None:
    selected = {}
    for p in (0.2, None, 0.9):
        (one,) = explain(dataset, load_model(run, top_p=p), [ID])
        selected[p] = np.mean([selected_share(level).mean() for level in one.output.levels if level.level == 1])
    assert selected[0.2] < 0.21 < selected[None] < 0.51 < 0.75 < selected[0.9]


def test_for_each_emotion_the_surest_of_those_with_it_alone_is_shown(dataset: Dataset, model: Model) -> None:
    found = explain_each_emotion(dataset, model, "train")
    assert [one.utterance.labels.index(1) for one in found] == list(range(len(EMOTIONS)))
    of_train = [row["id"] for row in dataset.rows(["id", "labels"], "train") if row["labels"][3]]
    happy = {one.utterance.id: one.output.probability[3] for one in explain(dataset, model, of_train)}
    assert found[3].utterance.id == max(happy, key=lambda name: happy[name])


def test_emotions_that_nobody_has_are_left_out(dataset: Dataset, model: Model) -> None:
    assert len(explain_each_emotion(dataset, model, "test")) == 2
    with pytest.raises(DataError, match=r"no split 'exam', expected one of train, valid, test"):
        explain_each_emotion(dataset, model, "exam")


def test_an_unknown_id_is_told_with_those_it_may_have_meant(dataset: Dataset, model: Model) -> None:
    with pytest.raises(DataError, match=r"no utterance 'Ses01F_impro1_F002'; nearest are Ses01F_impro01_F002"):
        explain(dataset, model, ["Ses01F_impro1_F002"])


def test_a_model_without_attention_and_data_of_another_recipe_are_refused(
    dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    write_run(tmp_path / "fe2e", dataset, "fe2e")
    with pytest.raises(DataError, match=r"a fe2e has no attention to show; expected a run of mesm"):
        explain(dataset, load_model(tmp_path / "fe2e"), [ID])
    with pytest.raises(DataError, match=r"a fe2e has no attention to show"):
        load_model(tmp_path / "fe2e", top_p=0.5)
    other = Dataset(dataset.folder, dataset.index | {"recipe_digest": "f" * 64})
    with pytest.raises(CheckpointError, match=r"was trained on clips of recipe"):
        explain(other, model, [ID])


# ---- the picture


def test_the_figure_says_what_each_layer_selected_and_saved(
    dataset: Dataset, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = texts(monkeypatch)
    (one,) = explain(dataset, model, [ID])
    draw(tmp_path / "overlay.png", [one], model)
    told = "\n".join(said)
    assert f"{model.run}, p = 0.5." in told
    assert "label: frustrated; decided: " in told
    assert told.count("✓") + told.count("✗") == len(model.emotions), "every decision"
    for level in one.output.levels:
        for frame in (0, 2):  # the faces that were found, at 0 and 1 s, and the chunks of these times
            assert f"selected {100 * selected_share(level)[frame]:.0f} %" in told
    assert told.count("saved") == 2 * (3 + 3) + 2, "two moments, three layers of faces and of audio, and in all"
    for words in ("at 0.0 s", "at 1.0 s", "0.8", "1.2 s", "layer 3", "mel chunk", "8000", "Hz"):
        assert words in told


def test_decisions_are_marked_as_right_and_wrong(dataset: Dataset, model: Model) -> None:
    (one,) = explain(dataset, model, [ID])
    labels = np.array(one.utterance.labels, np.float32)
    right, wrong = (
        replace(one, output=replace(one.output, probability=values)) for values in (labels * 0.9, 0.9 - labels * 0.8)
    )
    words, is_right = _verdict(right, model)
    assert is_right
    assert words.startswith("label: frustrated; decided: frustrated 0.90 ✓; not decided: anger 0.00 ✓, ")
    words, is_right = _verdict(wrong, model)
    assert not is_right
    assert words.startswith("label: frustrated; decided: anger 0.90 ✗, ")
    assert words.endswith("; not decided: frustrated 0.10 ✗")


def test_the_same_figure_has_the_same_bytes(dataset: Dataset, model: Model, tmp_path: Path) -> None:
    looked = explain(dataset, model, [ID])
    for name in ("one.png", "two.png"):
        draw(tmp_path / name, looked, model)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_dropped_places_of_a_face_are_faded_and_selected_ones_are_not(
    dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    (one,) = explain(dataset, model, [ID])
    grey = replace(one, clip=replace(one.clip, faces=np.full_like(one.clip.faces, 128)))
    draw(tmp_path / "grey.png", [grey], model)
    shown = np.asarray(Image.open(tmp_path / "grey.png").convert("RGB")).astype(int)
    faces = shown[:, : round(120 * (0.3 + 4 * attention_maps.FACE_WIDE))]
    grey_pixels = int((abs(faces - 128).max(axis=-1) < 50).sum())
    of_an_image = (120 * (attention_maps.FACE_WIDE - 0.12)) ** 2
    levels = [level for level in one.output.levels if level.modality == "v"]
    expected = sum(selected_share(level)[face] for level in levels for face in (0, 2)) * of_an_image
    expected += 2 * of_an_image  # the faces as they are
    assert grey_pixels == pytest.approx(expected, rel=0.05), "of the two faces that were found"


def test_an_utterance_without_faces_or_without_sound_is_drawn(dataset: Dataset, model: Model, tmp_path: Path) -> None:
    (one,) = explain(dataset, model, [ID])
    levels = {letter: tuple(x for x in one.output.levels if x.modality == letter) for letter in "va"}
    blind = replace(one, clip=replace(one.clip, faces=one.clip.faces[:0], face_found=one.clip.face_found[:0]))
    deaf = replace(one, clip=replace(one.clip, mels=one.clip.mels[:0]))
    for looked, letter in ((blind, "a"), (deaf, "v")):
        draw(tmp_path / "overlay.png", [replace(looked, output=replace(one.output, levels=levels[letter]))], model)
        assert (tmp_path / "overlay.png").stat().st_size > 10_000


# ---- the command


def mesm(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_command_draws_ids_and_one_of_each_emotion(dataset: Dataset, run: Path, tmp_path: Path) -> None:
    picture = tmp_path / "overlay.png"
    done = mesm(
        "attention", dataset.folder, "--checkpoint", run, "--ids", f"{ID},Ses01F_impro01_F000", "--out", picture
    )
    assert done.exit_code == 0, done.output
    two = Image.open(picture).height
    done = mesm(
        "attention", dataset.folder, "--checkpoint", run, "--one-per-emotion", "--split", "train", "--out", picture,
        "--top-p", "0.3",
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    assert Image.open(picture).height > two


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.png"], "give either --ids or --one-per-emotion"),
        (["--ids", ID, "--one-per-emotion", "--out", "x.png"], "give either --ids or --one-per-emotion"),
        (["--ids", ID], "give --out PICTURE, --video VIDEO or both"),
        (["--ids", f"{ID},b", "--video", "x.mp4"], "--video shows one utterance; give one id"),
    ],
)
def test_what_does_not_go_together_is_told(dataset: Dataset, run: Path, words: list[str], message: str) -> None:
    done = mesm("attention", dataset.folder, "--checkpoint", run, *words)
    assert done.exit_code == 2
    assert message in done.stderr
