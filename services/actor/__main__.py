"""Entry point: `python -m services.actor serve|train ...`."""

from common.rpc.entry import main
from services.actor.server import serve
from services.actor.train import main as train

if __name__ == "__main__":
    main("actor", serve=serve, train=train)
