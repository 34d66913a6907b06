# SPDX-License-Identifier: MIT
"""The table of wrong inputs in docs/trust.md has the number of cases that the tests try."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_GIVEN = "inference/test_given_values.py::test_"
_INTRINSICS = "inference/test_intrinsics.py::test_"
_MISSING = "inference/test_missing_hands.py::test_"
_PREDICT = "cli/test_cli_predict"
_NO_DEPTH = "ops/test_no_depth.py::test_"
KINDS = {
    "depth in another unit": (
        "inference/test_doctor.py::test_another_unit_is_recognised",
        "inference/test_doctor.py::test_the_likeliest_unit_is_named_first",
        _GIVEN + "a_hand_metres_away_is_an_error_that_names_the_unit",
        _INTRINSICS + "no_hand_in_a_wrong_unit_names_the_unit",
        _PREDICT + ".py::test_cubes_that_hold_no_hand_are_refused_with_the_likely_unit",
        "cli/test_cli_doctor.py::test_a_wrong_unit",
    ),
    "intrinsics of another size, order or unit": (
        _INTRINSICS + "intrinsics_in_another_order_are_recognised",
        _INTRINSICS + "intrinsics_of_another_size_are_refused_with_those_that_fit",
        _INTRINSICS + "focal_lengths_in_millimetres_are_refused",
        _INTRINSICS + "intrinsics_without_principal_point_or_focal_length_are_refused",
        "geometry/test_camera.py::test_a_camera_that_cannot_be",
        "geometry/test_camera.py::test_what_stands_for_no_camera",
        "io/test_camera_files.py::test_files_without_a_usable_camera",
    ),
    "centres and initial poses as x, y, z, metres, shares or pixels of larger frames": (
        _PREDICT + "_given.py::test_refuses_another_space_or_unit",
        _PREDICT + "_given.py::test_xyz_centres_that_are_inside_the_frames_are_recognised",
        _GIVEN + "refuses_centres_that_are_not_at_a_hand",
        _GIVEN + "refuses_initial_poses_in_another_space_or_unit",
    ),
    "frames without a usable hand, unreadable files, NaN rows": (
        _PREDICT + ".py::test_a_bad_frame_does_not_stop_the_run",
        _PREDICT + ".py::test_a_bad_frame_stops_the_run_when_asked",
        _PREDICT + ".py::test_bad_frames_are_left_out_when_asked",
        _PREDICT + "_given.py::test_a_frame_without_a_centre_is_missing",
        _MISSING + "every_frame_without_a_usable_hand_raises_or_gives_nan",
        _MISSING + "nan_for_a_frame_that_is_given_raises_or_gives_nan",
        _MISSING + "skip_leaves_frames_without_a_usable_hand_out",
        _MISSING + "skip_leaves_frames_with_nan_out",
        _MISSING + "several_hands_of_frames_without_a_usable_one",
    ),
    "ways to mark missing depth (0, negative, NaN, infinite, masked)": tuple(
        _NO_DEPTH + name
        for name in (
            "a_centre_never_counts_a_pixel_without_depth",
            "a_crop_is_the_same_whatever_marks_its_holes",
            "a_masked_pixel_is_no_depth",
            "a_range_below_zero_holds_no_pixel",
            "holes_have_no_gradient",
            "invalid_none_takes_negative_depth_as_it_is",
        )
    ),
    "text files: byte order marks, UTF-16, line ends, separators, missing frames": (
        "cli/test_cli_eval.py::test_foreign_text_files_give_the_same_numbers",
        "cli/test_cli_eval.py::test_another_separator_is_named",
        "cli/test_cli_eval.py::test_predictions_without_depth_are_named_by_line",
        "cli/test_cli_eval.py::test_the_sign_of_an_axis_is_suggested",
        "io/test_posefile.py::test_faults_name_the_place",
    ),
    "files that hold no depth frame, or a damaged one": (
        "io/test_frames.py::test_bad_msra",
        "io/test_frames.py::test_bad_numpy",
        "io/test_frames.py::test_pictures_that_hold_no_depth",
        "io/test_recordings.py::test_damaged_recordings",
    ),
    "settings out of range or of another type": (
        _GIVEN + "cubes_that_hold_no_hand_are_refused",
        _GIVEN + "settings_are_numbers_of_any_kind_but_truth_values",
        _GIVEN + "numbers_of_hands_that_are_none_are_refused",
    ),
    "MATLAB files": ("cli/test_cli_eval.py::test_matlab_results", "cli/test_cli_eval.py::test_matlab_faults"),
    "outputs that exist, records that are not ours": (
        "cli/test_cli_outputs.py::test_an_output_that_exists_is_refused_and_the_message_names_the_way",
        _PREDICT + ".py::test_a_record_that_it_did_not_make_is_never_written_over",
        _PREDICT + ".py::test_a_file_that_exists_is_refused",
        "cli/test_cli_eval.py::test_files_that_exist_are_not_replaced_unasked",
    ),
    "resuming with other weights, settings, centres or frames": (
        _PREDICT + "_resume.py::test_a_run_with_other_settings_is_not_continued",
        _PREDICT + "_resume.py::test_a_recording_that_grew_is_continued",
    ),
    "file names": (_PREDICT + ".py::test_any_file_name",),
    "default dtype and device of torch": (
        "ops/test_torch_settings.py::test_the_default_dtype_and_device_of_torch_change_nothing",
        "synthetic/test_default_dtype.py::test_synthetic_frames_are_the_same",
        "synthetic/test_default_dtype.py::test_estimates_are_the_same",
        "synthetic/test_default_dtype.py::test_training_makes_float32_models",
        "synthetic/test_default_dtype.py::test_detection_tracking_and_examination_are_the_same",
    ),
    "derivatives that do not exist, and those of the operators themselves": (
        "ops/test_derivatives.py::test_operators_refuse_forward_mode",
        "ops/test_derivatives.py::test_operators_refuse_derivatives_that_do_not_exist",
        "ops/test_derivatives.py::test_operators_transform_as_the_functions_do",
        "ops/test_derivatives.py::test_reverse_transforms_compile_and_forward_mode_is_refused_there",
    ),
    "the wrong hand, a side that the model does not know, a forearm": (
        "inference/test_pose_check.py::test_the_finding_and_its_remedy",
        "inference/test_pose_check.py::test_both_hands_are_computed_at_the_centre_found",
        "inference/test_pose_check.py::test_a_forearm_alone_is_named",
        "inference/test_doctor.py::test_a_forearm_that_crosses_the_frame_is_no_whole_hand",
    ),
    "exceptions and odd streams of the command line": (
        "cli/test_cli_errors.py::test_every_exception_is_one_line",
        "cli/test_cli_errors.py::test_wrong_usage_is_one_line_with_status_2",
        "cli/test_cli_errors.py::test_odd_streams_do_no_harm",
        "cli/test_cli_errors.py::test_terminals_of_other_kinds",
        "cli/test_cli_errors.py::test_signals_end_a_command_with_their_status",
    ),
}
TESTS = [test for tests in KINDS.values() for test in tests]


def _cases(request: pytest.FixtureRequest) -> Counter[str]:
    """How many cases each test has: of this run of pytest if it has all the tests, else of a collection of its own."""
    ids = [item.nodeid for item in request.session.items]
    if not {f"python_tests/{test}" for test in TESTS} <= {name.partition("[")[0] for name in ids}:
        files = sorted({f"python_tests/{test.partition('::')[0]}" for test in TESTS})
        command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider", "-n", "0", *files]
        ids = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return Counter(name.partition("[")[0].removeprefix("python_tests/") for name in ids if "[cuda" not in name)


def test_the_table_of_wrong_inputs_has_the_number_of_cases(request: pytest.FixtureRequest) -> None:
    page = (ROOT / "docs" / "trust.md").read_text()
    table = page.partition("## Wrong input is named")[2].partition("\n## ")[0]
    rows = {kind: int(number) for kind, number in re.findall(r"^\| (.+?) \| .+ \| +(\d+) \|$", table, re.MULTILINE)}
    cases = _cases(request)
    assert all(cases[test] for test in TESTS), [test for test in TESTS if not cases[test]]
    assert rows == {kind: sum(cases[test] for test in tests) for kind, tests in KINDS.items()}
