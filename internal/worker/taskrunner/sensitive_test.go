package taskrunner

import (
	"testing"

	"github.com/gustflow/gust/internal/mask"
)

// TestSensitiveNames: which names are secret is the installation's choice; a
// masker that does not know it leaves Airflow's list.
func TestSensitiveNames(t *testing.T) {
	plain := &adder{}
	hidden, shown, more := mask.New(mask.Options{}), mask.New(mask.Options{ShowSensitive: true}), mask.New(mask.Options{Names: []string{"region"}})
	for name, want := range map[string][4]bool{
		"db_password": {true, true, false, true}, "Webhook-URL": {true, true, false, true}, "dsn": {true, true, false, true},
		"bearer": {true, true, false, true}, "region": {false, false, false, true},
	} {
		value := "value of " + name
		for i, m := range []Masker{plain, hidden, shown, more} {
			addNamed(m, name, value)
			if got := m.Mask(value) != value; got != want[i] {
				t.Errorf("%s, masker %d: masked %t, want %t", name, i, got, want[i])
			}
		}
	}
	addNamed(nil, "password", "x")
}

type adder struct{ seen map[string]bool }

func (a *adder) Add(s string) {
	if a.seen == nil {
		a.seen = map[string]bool{}
	}
	a.seen[s] = true
}

func (a *adder) Mask(s string) string {
	if a.seen[s] {
		return "***"
	}
	return s
}
