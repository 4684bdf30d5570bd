package taskrunner

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestScanList(t *testing.T) {
	for _, raw := range []string{`[]`, ` [ ] `, `[1]`, `[1, 2 ,3]`, `["a,]\"b", {"x":[1,2,"}"]}, [[],[1]], null]`, "[\n\"\\\\\", 2\n]"} {
		var want []json.RawMessage
		if err := json.Unmarshal([]byte(raw), &want); err != nil {
			t.Fatal(err)
		}
		if _, n, ok := scanList([]byte(raw), -1); !ok || n != len(want) {
			t.Errorf("%s has %d elements, counted %d %t", raw, len(want), n, ok)
		}
		for i := range want {
			e, _, ok := scanList([]byte(raw), i)
			if !ok || strings.TrimSpace(string(e)) != string(want[i]) {
				t.Errorf("element %d of %s is %s, want %s", i, raw, e, want[i])
			}
		}
	}
	for _, raw := range []string{`{"a":[1]}`, `"[]"`, ``, `3`} {
		if _, _, ok := scanList([]byte(raw), 0); ok {
			t.Errorf("%s counts as a list", raw)
		}
	}
}
