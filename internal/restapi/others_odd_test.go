package restapi_test

import (
	"encoding/json"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestSettingsTakeOddNames asks with names, numbers and dates that nobody means:
// what cannot be done is refused, never 5xx, on either driver.
func TestSettingsTakeOddNames(t *testing.T) {
	onDrivers(t, func(w *world) {
		w.withSettings()
		ask := func(method, path, body string) {
			w.Helper()
			rec := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(w.Context(), method, path, io.NopCloser(strings.NewReader(body)))
			if body != "" {
				r.Header.Set("Content-Type", "application/json")
			}
			w.api.ServeHTTP(rec, r)
			if rec.Code >= 500 {
				w.Errorf("%s %.120s %.200s: %d %.200s", method, path, body, rec.Code, rec.Body)
			}
		}
		for _, name := range []string{"", "\x00", "a\x00b", strings.Repeat("😀", 250), " ", "..", "a/b", "%", "\U0010FFFF", "a\nb"} {
			b, err := json.Marshal(name)
			if err != nil {
				w.Fatal(err)
			}
			for _, c := range [][3]string{
				{"POST", "/api/v2/variables", `{"key": NAME, "value": 1}`},
				{"POST", "/api/v2/pools", `{"name": NAME, "slots": 1}`},
				{"PATCH", "/api/v2/variables", `{"actions": [{"action": "create", "entities": [{"key": NAME, "value": 1}]}, {"action": "delete", "entities": [NAME]}]}`},
				{"PATCH", "/api/v2/pools", `{"actions": [{"action": "create", "entities": [{"name": NAME, "slots": 1}]}, {"action": "delete", "entities": [NAME]}]}`},
				{"PATCH", "/api/v2/connections", `{"actions": [{"action": "delete", "entities": [NAME]}]}`},
				{"POST", "/api/v2/backfills", `{"dag_id": NAME, "from_date": "2026-01-01T00:00:00Z", "to_date": "2026-01-01T00:00:00Z"}`},
				{"POST", "/api/v2/backfills/dry_run", `{"dag_id": "beta", "from_date": "0001-01-01T00:00:00Z", "to_date": "9999-01-01T00:00:00Z", "max_active_runs": -5}`},
			} {
				ask(c[0], c[1], strings.ReplaceAll(c[2], "NAME", string(b)))
			}
		}
		for _, odd := range []string{"%00", "a%00b", "%ff", "0", "-1", "9223372036854775807", "-9223372036854775808", "abc", "%20", "%2F", "%F4%8F%BF%BF", strings.Repeat("x", 3000)} {
			for _, p := range []string{"variables", "pools", "connections", "backfills", "assets", "assets/aliases", "importErrors", "eventLogs"} {
				ask("GET", "/api/v2/"+p+"/"+odd, "")
				ask("DELETE", "/api/v2/"+p+"/"+odd, "")
			}
			for _, p := range []string{
				"variables?variable_key_prefix_pattern=", "pools?pool_name_prefix_pattern=", "connections?connection_id_prefix_pattern=", "importErrors?filename=", "importErrors?filename_prefix_pattern=",
				"assets?name_prefix_pattern=", "assets/aliases?name_prefix_pattern=", "assets/events?asset_id=", "assets/events?timestamp_gte=", "backfills?dag_id=", "variables?cursor=", "eventLogs?cursor=",
				"eventLogs?before=0001-01-01T00:00:00Z&dag_id=", "eventLogs?after=9999-12-31T23:59:59Z&dag_id=", "eventLogs?after=2030-01-01T00:00:00Z&before=2020-01-01T00:00:00Z&dag_id=",
				"assets/events?timestamp_gte=2030-01-01T00:00:00Z&timestamp_lte=2020-01-01T00:00:00Z&source_dag_id=",
			} {
				ask("GET", "/api/v2/"+p+odd, "")
			}
		}
	})
}
