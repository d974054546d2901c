import subprocess
import sys

SCRIPT = """
import atexit, os
import torch.distributed
from aqd_mmdet.engine import launch

class TornDown:
    def __del__(self):
        print('torn down')

print('begins')
torn_down = TornDown()
atexit.register(print, 'exit')
if {distributed}:
    os.environ.update(
        MASTER_ADDR='127.0.0.1', MASTER_PORT='29512', RANK='0', WORLD_SIZE='1'
    )
    torch.distributed.init_process_group('gloo')
launch.leave()
print('goes on', flush=True)
"""


def run(distributed):
    result = subprocess.run(
        [sys.executable, '-c', SCRIPT.format(distributed=distributed)],
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr
    # Packages have their say when they are imported.
    return result.stdout.split('begins\n')[1].splitlines()


def test_nothing_is_torn_down_under_threads_of_gloo():
    assert run(distributed=True) == ['exit']


def test_without_gloo_a_process_ends_as_others_do():
    assert run(distributed=False) == ['goes on', 'exit', 'torn down']
