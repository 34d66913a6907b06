# SPDX-License-Identifier: MIT
"""The coordinate frame of the palm: origin at the wrist, axes from the roots of the middle and the little finger.

The axes are those of the MSRA viewpoint protocol: y from the wrist to the middle finger's MCP joint, z along the cross
product of y and the direction to the little finger's MCP joint, x = y x z.
"""

from __future__ import annotations

from typing import Any

import torch

from poseren_ext._utils.arrays import as_tensor, like
from poseren_ext.geometry.joint_orders import anatomy
from poseren_ext.geometry.skeleton import Skeleton

_NEEDED = ("wrist", "middle mcp", "pinky mcp")


def palm_frame(joints: Any, skeleton: Skeleton) -> tuple[Any, Any]:
    """Origin and axes of the palm.

    Args:
        joints: [..., J, 3] in the camera frame, any unit of length; a floating-point tensor or array.
        skeleton: whose joints they are.

    Returns:
        The wrist [..., 3] and the axes [..., 3, 3], whose rows are x, y and z in the camera frame; NaN for a palm
        without extent.

    Raises:
        ValueError: the skeleton has no wrist or no MCP joints (NYU's 14 and ICVL's 16 joints).
    """
    names = anatomy(skeleton)
    absent = [name for name in _NEEDED if name not in names]
    if absent:
        raise ValueError(f"the palm frame needs {', '.join(absent)}, which {skeleton.name} does not have")
    points = as_tensor(joints)
    wrist, middle, pinky = (points[..., names.index(name), :] for name in _NEEDED)
    y = middle - wrist
    y = y / torch.linalg.vector_norm(y, dim=-1, keepdim=True)
    z = torch.linalg.cross(y, pinky - wrist)
    z = z / torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    axes = torch.stack([torch.linalg.cross(y, z), y, z], -2)
    return like(wrist, joints), like(axes, joints)


def to_palm(joints: Any, skeleton: Skeleton) -> Any:
    """Joints [..., J, 3] of the camera frame in the frame of the palm; arguments and errors as in `palm_frame`."""
    points = as_tensor(joints)
    wrist, axes = palm_frame(points, skeleton)
    return like((points - wrist[..., None, :]) @ axes.transpose(-1, -2), joints)
