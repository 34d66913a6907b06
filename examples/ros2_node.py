# SPDX-License-Identifier: MIT
"""A ROS 2 node: depth images in, hand joints out as geometry_msgs/PoseArray in metres, in the camera's frame.

    python examples/ros2_node.py --ros-args -r depth:=/camera/depth/image_rect_raw -r camera_info:=/camera/depth/info

Subscribes to `depth` (sensor_msgs/Image, 16UC1 in mm or 32FC1 in metres) and `camera_info`. Publishes `hand_joints`
with the stamp and frame of the image: 21 poses in MediaPipe's order, or none where no hand was found. The parameter
`hand` is right, left or auto. Needs a sourced ROS 2 (rclpy) in the Python that has poseren_ext.
"""

from __future__ import annotations

import numpy as np
import rclpy
from geometry_msgs.msg import Point, Pose, PoseArray
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CameraInfo, Image

from poseren_ext import Estimator
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.live import LiveEstimator, StreamFrame

MM_PER_UNIT = {"16UC1": 1.0, "mono16": 1.0, "32FC1": 1000.0}


class HandNode(Node):
    def __init__(self) -> None:
        super().__init__("poseren_hand")
        self.hand = self.declare_parameter("hand", "right").value
        self.publisher = self.create_publisher(PoseArray, "hand_joints", 10)
        self.create_subscription(CameraInfo, "camera_info", self.on_camera_info, qos_profile_sensor_data)
        self.create_subscription(Image, "depth", self.on_image, qos_profile_sensor_data)
        self.camera: CameraInfo | None = None
        self.live: LiveEstimator | None = None
        self.number = 0

    def on_camera_info(self, info: CameraInfo) -> None:
        self.camera = info  # an Estimator reads k, width and height of it

    def on_image(self, image: Image) -> None:
        if self.camera is None or image.encoding not in MM_PER_UNIT:
            self.get_logger().warning(
                f"no camera_info yet, or encoding {image.encoding} is not a depth image", once=True
            )
            return
        if self.live is None:
            unit = MM_PER_UNIT[image.encoding]
            self.live = LiveEstimator(Estimator(camera=self.camera, hand=self.hand, depth_unit=unit))
        stamp = image.header.stamp
        result = self.live.step(StreamFrame(depth_of(image), self.number, time=stamp.sec + 1e-9 * stamp.nanosec))
        self.number += 1
        message = PoseArray(header=image.header)
        if result.hands:
            joints = result.hands[0].pose.in_order("mediapipe", JointLayout("xyz", "m"))
            message.poses = [Pose(position=Point(x=x, y=y, z=z)) for x, y, z in np.asarray(joints, float).tolist()]
        self.publisher.publish(message)


def depth_of(image: Image) -> np.ndarray:
    """The pixels [H, W] of a depth image, whose rows may be padded."""
    kind = np.dtype("f4" if image.encoding == "32FC1" else "u2").newbyteorder(">" if image.is_bigendian else "<")
    rows = np.frombuffer(bytes(image.data), np.uint8).reshape(image.height, image.step)
    depth = rows[:, : image.width * kind.itemsize].copy().view(kind)
    return depth.astype(kind.newbyteorder("="))


def main() -> None:
    rclpy.init()
    rclpy.spin(HandNode())


if __name__ == "__main__":
    main()
