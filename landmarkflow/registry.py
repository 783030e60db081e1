"""Every method and every stage there is. A further method is one more import and one more name."""

from landmarkflow.data.stages import STAGES as DATA
from landmarkflow.evaluation.stages import STAGES as EVALUATION
from landmarkflow.methods.dualhead.stages import METHOD as DUALHEAD
from landmarkflow.methods.fuse.stages import METHOD as FUSE
from landmarkflow.methods.oneshot.stages import METHOD as ONESHOT
from landmarkflow.methods.salient.stages import METHOD as SALIENT
from landmarkflow.methods.zoomin.stages import METHOD as ZOOMIN
from landmarkflow.report.stages import STAGES as REPORT

METHODS = {method.name: method for method in (ONESHOT, FUSE, DUALHEAD, SALIENT, ZOOMIN)}
STAGES = (
    *DATA,
    *(stage for method in METHODS.values() for stage in method.stages),
    *EVALUATION,
    *REPORT,
)
