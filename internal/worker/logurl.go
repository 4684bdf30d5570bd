package worker

import (
	"net/url"
	"strconv"
	"strings"

	"github.com/gustflow/gust/internal/airflow"
)

// LogURL is where users read the log of a try, ti.log_url: below base ([api]
// base_url), Airflow's http://localhost:8080 if that is empty.
func LogURL(base string, k airflow.TaskInstanceKey, try int) string {
	if base == "" {
		base = "http://localhost:8080"
	}
	run := strings.NewReplacer("+", "%20", "%2F", "/").Replace(url.QueryEscape(string(k.RunID))) // Python's quote
	s := strings.TrimRight(base, "/") + "/dags/" + string(k.DagID) + "/runs/" + run + "/tasks/" + string(k.TaskID)
	if k.MapIndex >= 0 {
		s += "/mapped/" + strconv.Itoa(k.MapIndex)
	}
	if try > 0 {
		s += "?try_number=" + strconv.Itoa(try)
	}
	return s
}
