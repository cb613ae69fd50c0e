"""Workers in processes, over ZeroMQ (pyzmq): no MPI is needed, any launcher that numbers processes will do."""

from loosestep.transports.zmq.transport import ZMQ

__all__ = ["ZMQ"]
