"""Entry point: `python -m services.prior serve|train ...`."""

from common.rpc.entry import main
from services.prior.server import serve
from services.prior.train import main as train

if __name__ == "__main__":
    main("prior", serve=serve, train=train)
