"""The simulated teacher: a stability-optimised circuit that makes reaching movements."""

from nwbrnn.teacher.reaching import TeacherConfig
from nwbrnn.teacher.simulate import simulate_teacher
from nwbrnn.teacher.soc import Circuit, build_circuit, integrate

__all__ = ["Circuit", "TeacherConfig", "build_circuit", "integrate", "simulate_teacher"]
