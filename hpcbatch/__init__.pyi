from hpcbatch.client import BatchClient as BatchClient
from hpcbatch.client import BatchEndpoint as BatchEndpoint
from hpcbatch.client import BatchRetrySettings as BatchRetrySettings
from hpcbatch.client import CodeConfiguration as CodeConfiguration
from hpcbatch.client import Compute as Compute
from hpcbatch.client import Data as Data
from hpcbatch.client import Environment as Environment
from hpcbatch.client import Input as Input
from hpcbatch.client import Job as Job
from hpcbatch.client import Model as Model
from hpcbatch.client import ModelBatchDeployment as ModelBatchDeployment
from hpcbatch.client import ModelBatchDeploymentSettings as ModelBatchDeploymentSettings
from hpcbatch.client import Output as Output
from hpcbatch.client import load as load
from hpcbatch.errors import Conflict as Conflict
from hpcbatch.errors import HpcBatchError as HpcBatchError
from hpcbatch.errors import JobError as JobError
from hpcbatch.errors import NotFound as NotFound
from hpcbatch.errors import SpecError as SpecError

__all__: list[str]
__version__: str
