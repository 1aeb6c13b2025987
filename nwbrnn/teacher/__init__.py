"""Simulate a circuit that generates reaching movements, which a network can be fitted to."""

from nwbrnn.teacher.mechanisms import MECHANISMS, Mechanism
from nwbrnn.teacher.reaching import TeacherConfig
from nwbrnn.teacher.simulate import Reaches, simulate_teacher
from nwbrnn.teacher.soc import Circuit, build_circuit, integrate

__all__ = [
    "MECHANISMS",
    "Circuit",
    "Mechanism",
    "Reaches",
    "TeacherConfig",
    "build_circuit",
    "integrate",
    "simulate_teacher",
]
