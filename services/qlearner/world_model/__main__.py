"""Entry point: `python -m services.qlearner.world_model train ...`."""

from common.rpc.entry import main
from services.qlearner.world_model.train import main as train

if __name__ == "__main__":
    main("qlearner.world_model", train=train)
