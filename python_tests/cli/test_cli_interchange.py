# SPDX-License-Identifier: MIT
from helpers import caffe_files
from helpers.caffe_files import NARROW
from helpers.docs_blocks import block_not_run, changed, commands
from helpers.small_models import small_model

from poseren_ext.models import load, save


def test_import_refuses_another_dataset(tmp_path, poseren):
    path = tmp_path / "icvl_pose_ren.caffemodel"
    caffe_files.write(path, caffe_files.random_weights("icvl", "pose_ren", **NARROW))
    path.with_name("icvl_baseline.caffemodel").write_bytes(path.read_bytes())
    status, _, errors = poseren("import-caffe", path, "--dataset", "nyu")
    assert status == 1
    assert errors.startswith("poseren: error:")
    assert "expected [16, 1, 3, 3] for the Pose-REN of nyu" in errors
    assert not path.with_suffix(".safetensors").exists()


def test_import_writes_a_model(tmp_path, poseren, monkeypatch):
    """The command end to end; the networks are narrow, which the command itself has no option for."""
    import poseren_ext.models.caffe as caffe

    wide = caffe.import_caffe
    sizes = {"widths": (24, 24), "channels": (4, 8, 16)}
    monkeypatch.setattr(caffe, "import_caffe", lambda *args, **options: wide(*args, **options, **sizes))
    for kind in ("pose_ren", "baseline"):
        path = tmp_path / f"msra_{kind}_0.caffemodel"
        caffe_files.write(path, caffe_files.random_weights("msra", kind, **NARROW), old=True)
    status, output, _ = poseren("import-caffe", tmp_path / "msra_pose_ren_0.caffemodel", "--dataset", "msra")
    assert status == 0
    assert "msra21, right hand" in output
    assert load(tmp_path / "msra_pose_ren_0.safetensors").skeleton.name == "msra21"


def test_the_import_on_the_page(tmp_path, poseren, monkeypatch):
    """docs/guides/model.md, with narrow networks."""
    import poseren_ext.models.caffe as caffe

    wide, sizes = caffe.import_caffe, {"widths": (24, 24), "channels": (4, 8, 16)}
    monkeypatch.setattr(caffe, "import_caffe", lambda *args, **options: wide(*args, **options, **sizes))
    monkeypatch.chdir(tmp_path)
    for kind in ("pose_ren", "baseline"):
        caffe_files.write(tmp_path / f"nyu_{kind}.caffemodel", caffe_files.random_weights("nyu", kind, **NARROW))
    (command,) = commands(block_not_run("guides/model.md", "import-caffe"))
    status, _, errors = poseren(*changed(command)[1:])
    assert status == 0, errors
    assert load(tmp_path / "nyu.safetensors").skeleton.name == "nyu14"


def test_export_needs_a_known_suffix(tmp_path, poseren):
    save(small_model(), tmp_path / "a.safetensors")
    status, _, errors = poseren("export", tmp_path / "a.torch", "--model", tmp_path / "a.safetensors")
    assert status == 2
    assert "ends in .onnx or .pt2" in " ".join(errors.split())


def test_export_calls_the_exporter(tmp_path, poseren, monkeypatch):
    """The exporters have tests of their own: here, that the options arrive."""
    calls = []

    def exporter(model, path, **options):
        calls.append((model.skeleton.name, path.name, options))
        path.write_bytes(b"x")

    monkeypatch.setattr("poseren_ext.export.export_onnx", exporter)
    monkeypatch.setattr("poseren_ext.export.export_package", exporter)
    save(small_model(), tmp_path / "a.safetensors")
    for name in ("a.onnx", "a.pt2"):
        options = ("--model", tmp_path / "a.safetensors", "--stages", 2, "--depth-unit", 0.125, "--range", 200, 700)
        assert poseren("export", tmp_path / name, *options)[0] == 0
    settings = {"stages": 2, "hand": None, "depth_range": (200, 700), "detect": None, "depth_unit": 0.125}
    assert calls == [("nyu14", "a.onnx", settings | {"opset": 20}), ("nyu14", "a.pt2", settings)]


def test_export_of_either_hand_needs_an_error_head(tmp_path, poseren):
    save(small_model(), tmp_path / "a.safetensors")
    arguments = ("export", tmp_path / "a.onnx", "--model", tmp_path / "a.safetensors", "--hand", "auto")
    status, _, errors = poseren(*arguments)
    assert status == 1
    assert "the model predicts no error to choose by" in " ".join(errors.split())


def test_detection_and_a_range_exclude_each_other(poseren, tmp_path):
    status, _, errors = poseren("export", tmp_path / "a.onnx", "--detect", 480, 640, "--range", 200, 700)
    assert status == 2
    assert "not together with --range" in " ".join(errors.split())
