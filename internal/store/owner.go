package store

import (
	"strconv"

	"github.com/gustflow/gust/internal/airflow"
)

// Owner says whom an item is for, by the partition key it lies under: a task
// instance, a run (TaskID ""), a DAG (RunID "") or nobody in particular (DagID "").
// Meters count by it.
func Owner(pk string) airflow.TaskInstanceKey {
	s := splitKey(pk)
	k := airflow.TaskInstanceKey{}
	switch {
	case s[0] == kindTI && len(s) == 5:
		k.TaskID = airflow.TaskID(s[3])
		k.MapIndex, _ = strconv.Atoi(s[4])
		fallthrough
	case s[0] == kindRun && len(s) >= 3:
		k.RunID = airflow.RunID(s[2])
		fallthrough
	case (s[0] == kindDAG || s[0] == kindRunLD) && len(s) >= 2:
		k.DagID = airflow.DagID(s[1])
	}
	return k
}
