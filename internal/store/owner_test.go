package store

import (
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
)

func TestOwner(t *testing.T) {
	ti := airflow.TaskInstanceKey{DagID: "a#b%", RunID: "r#1", TaskID: "t%", MapIndex: 7}
	for pk, want := range map[string]airflow.TaskInstanceKey{
		tiPK(ti):                              ti,
		runPK(RunKey{ti.DagID, ti.RunID}):     {DagID: "a#b%", RunID: "r#1"},
		dagPK(ti.DagID):                       {DagID: "a#b%"},
		runLDPK("d", time.Unix(1, 0)):         {DagID: "d"},
		allOf(kindDAG):                        {},
		namedKey(kindPool, "default_pool").PK: {},
		"":                                    {},
		"TI#x":                                {},
	} {
		if got := Owner(pk); got != want {
			t.Errorf("%s: %+v, want %+v", pk, got, want)
		}
	}
}
