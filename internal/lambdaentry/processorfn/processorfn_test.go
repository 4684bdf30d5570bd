package processorfn_test

import (
	"strings"
	"testing"
	"time"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/lambdaentry/processorfn"
)

func TestTooLong(t *testing.T) {
	task := func(id string, d time.Duration, executor string) *airflow.Task {
		return &airflow.Task{TaskID: airflow.TaskID(id), ExecutionTimeout: d, Executor: executor}
	}
	got := processorfn.TooLong(&airflow.DAG{DagID: "d", Tasks: []*airflow.Task{
		task("none", 0, ""), task("fits", 14*time.Minute, ""), task("long", 15*time.Minute, ""), task("celery", time.Hour, "CeleryExecutor"), task("ecs", time.Hour, "ecs"),
	}})
	if len(got) != 2 || got[0].Field != "d.tasks.long.execution_timeout" || got[1].Field != "d.tasks.celery.execution_timeout" || !strings.Contains(got[0].Message, "15m0s") {
		t.Errorf("%v", got)
	}
}
