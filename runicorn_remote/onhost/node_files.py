"""What the launcher and the relay agree on. Runs on the remote machine: Python >= 3.6, standard library.

Beside the log and the record, the private directory of a viewer on a compute node has
    relay.py    the program of both halves of the relay
    node.sh     what the launch command runs on the node
    node        the name of the node, once it has been reached
"""

RELAY_NAME = "relay.py"
NODE_COMMAND_NAME = "node.sh"
NODE_NAME = "node"
# Exit statuses of the relay: it did not reach a node; the node has no such Python.
COMMAND_FAILED = 120
NODE_FAILED = 121
