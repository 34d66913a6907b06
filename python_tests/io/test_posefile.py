# SPDX-License-Identifier: MIT
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from poseren_ext.io.pose_files import PoseFileError, read_poses, require_uvd, write_poses


@pytest.fixture
def poses():
    return np.random.default_rng(0).uniform(10, 600, (5, 14, 3)).round(3)


@pytest.fixture
def file(tmp_path, poses):
    path = tmp_path / "poses.txt"
    write_poses(path, poses)
    return path


def lines_of(path):
    return path.read_text().splitlines()


def rewrite(path, line, change):
    lines = lines_of(path)
    lines[line - 1] = change(lines[line - 1])
    path.write_text("\n".join(lines) + "\n")


def test_round_trip(file, poses):
    assert len(lines_of(file)) == 5
    assert len(lines_of(file)[0].split()) == 42
    np.testing.assert_array_equal(read_poses(file), poses)
    np.testing.assert_array_equal(read_poses(file, joints=14, frames=5), poses)
    np.testing.assert_array_equal(read_poses(file, select=slice(1, 3)), poses[1:3])


@given(arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 3), st.just(3)), elements=st.floats(-1e6, 1e6)))
@settings(deadline=None, max_examples=30)
def test_round_trip_of_any_numbers(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("poses") / "any.txt"
    write_poses(path, values)
    np.testing.assert_allclose(read_poses(path), values, atol=5.01e-4)


def test_published_line_format(tmp_path):
    path = tmp_path / "published.txt"
    path.write_text("169.651 201.016 740.507 \n1e2 2 3\n")  # trailing blanks and no decimals are both in circulation
    np.testing.assert_array_equal(read_poses(path), [[[169.651, 201.016, 740.507]], [[100, 2, 3]]])


@pytest.mark.parametrize(
    ("line", "change", "message"),
    [
        (3, lambda text: text.replace(text.split()[4], "nan", 1), r"line 3, value 5: nan; expected a finite number"),
        (2, lambda text: text + " 7", r"line 2: 43 values; expected 42 numbers \(14 joints x u v d\)"),
        (5, lambda text: "\n9 9", r"line 5: no values; expected 42 numbers"),
        (1, lambda text: "u v d " * 14, r"line 1, value 1: 'u' is not a number"),
        (4, lambda text: text.replace(".", ",", 1), r"line 4, value 1: '.*,.*' is not a number"),
        (4, lambda text: "inf" + text[text.index(" ") :], r"line 4, value 1: inf"),
    ],
)
def test_faults_name_the_place(file, line, change, message):
    rewrite(file, line, change)
    with pytest.raises(PoseFileError, match=message) as caught:
        read_poses(file, joints=14)
    assert str(file) in str(caught.value)


def test_other_faults(tmp_path, file):
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_poses(tmp_path / "missing.txt")
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_poses(tmp_path)
    with pytest.raises(PoseFileError, match="5 lines; the labels have 6"):
        read_poses(file, frames=6)
    with pytest.raises(PoseFileError, match="line 1: 42 values; expected 48"):
        read_poses(file, joints=16)
    for select in (slice(3, 3), slice(4, 9), slice(-1, 2)):
        with pytest.raises(PoseFileError, match="the file has frames 0:5"):
            read_poses(file, select=select)
    empty = tmp_path / "empty.txt"
    empty.touch()
    with pytest.raises(PoseFileError, match="empty"):
        read_poses(empty)
    empty.write_text("1 2 3 4\n")
    with pytest.raises(PoseFileError, match="4 values; expected 3 numbers u v d per joint"):
        read_poses(empty)
    empty.write_bytes(b"\x89PNG\x00\xff")
    with pytest.raises(PoseFileError, match="not a text file"):
        read_poses(empty)


def test_a_write_that_fails_leaves_the_old_file(file, poses, monkeypatch):
    before = file.read_bytes()
    with pytest.raises(ValueError, match="frame 1 has a joint that is NaN"):
        write_poses(file, np.where(np.arange(5)[:, None, None] == 1, np.nan, poses))
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        write_poses(file, poses + 1)
    assert file.read_bytes() == before
    assert [f.name for f in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize("shape", [(5, 42), (5, 14, 2), (5, 0, 3)])
def test_only_poses_are_written(tmp_path, shape):
    with pytest.raises(ValueError, match="expected \\[frames, joints, 3\\]"):
        write_poses(tmp_path / "p.txt", np.zeros(shape))


def test_require_uvd():
    generator = np.random.default_rng(0)
    uvd = generator.uniform((100, 100, 500), (540, 380, 900), (50, 14, 3))
    require_uvd("good.txt", uvd, 640, 480)
    half_out = uvd.copy()
    half_out[0, :3, 0] = -40  # fingertips of one frame beyond the border
    require_uvd("good.txt", half_out, 640, 480)
    xyz = generator.uniform((-150, -120, 500), (150, 120, 900), (50, 14, 3))
    with pytest.raises(PoseFileError, match=r"xyz.txt: .*% of the joints lie outside the 640x480 image.*--format xyz"):
        require_uvd("xyz.txt", xyz, 640, 480)
    with pytest.raises(PoseFileError, match="look like metres"):
        require_uvd("metres.txt", uvd * (1, 1, 0.001), 640, 480)
    with pytest.raises(PoseFileError, match="depths are negative"):
        require_uvd("msra.txt", xyz * (1, -1, -1), 640, 480)
    with pytest.raises(PoseFileError, match="u v d of a larger image; give --camera"):
        require_uvd("larger.txt", uvd, 320, 240)


def test_lines_of_nan_are_read_where_they_are_allowed(tmp_path, file, poses):
    rewrite(file, 3, lambda text: " ".join(["nan"] * 42))
    read = read_poses(file, joints=14, nan=True)
    assert np.isnan(read[2]).all()
    assert np.isfinite(read[[0, 1, 3, 4]]).all()
    rewrite(file, 4, lambda text: " ".join(["inf"] * 42))
    with pytest.raises(PoseFileError, match="line 4, value 1: inf"):
        read_poses(file, joints=14, nan=True)
