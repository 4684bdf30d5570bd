package taskrunner

import (
	"encoding/json"

	"github.com/gustflow/gust/internal/airflow"
)

// CheckParams reports how a run's conf and a DAG's params do not fit the schemas
// of the params, for a run that is about to be triggered. The error is an
// airflow.InvalidError with every problem.
func CheckParams(dag *airflow.DAG, conf json.RawMessage) error {
	_, err := mergeParams(dag, nil, conf)
	return err
}
