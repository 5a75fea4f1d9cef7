"""Entry point: `python -m services.qlearner serve|train ...`."""

from common.rpc.entry import main
from services.qlearner.server import serve
from services.qlearner.train import main as train

if __name__ == "__main__":
    main("qlearner", serve=serve, train=train)
