package taskrunner

import "testing"

// TestSensitiveName: the worker and the masker have one list of names.
func TestSensitiveName(t *testing.T) {
	for name, want := range map[string]bool{"db_password": true, "Webhook-URL": true, "dsn": true, "bearer": true, "region": false} {
		if SensitiveName(name) != want {
			t.Errorf("%s: %v", name, !want)
		}
	}
}
