"""The relay between a login node and a viewer on a compute node: a program of its own, in a file.

`launch` puts it into the viewer's private directory and starts the one half; the launch command of the
cluster starts the other. Runs on the remote machine: Python >= 3.6, standard library.
"""

from runicorn_remote.onhost.relay_login import relay_login
from runicorn_remote.onhost.relay_node import relay_node


def main(arguments: dict) -> None:
    """`half`: `login` or `node`; the rest as for that half."""
    if arguments["half"] == "login":
        relay_login(arguments)
    else:
        relay_node(arguments)
