package dagspec

import (
	"fmt"
	"os"
	"testing"
	"time"
)

func TestTry(t *testing.T) {
	p := os.Getenv("TRY")
	if p == "" {
		t.Skip("manual")
	}
	py := NewInterpreter("/tmp/gw/vec")
	defer py.Close()
	res := Load(Dir{Env: func(n string) (string, bool) {
		switch n {
		case "VEC_DIR":
			return "/tmp/gw/vec", true
		case "VEC_REGION":
			return "eu-west-1", true
		case "AIRFLOW_VAR_VEC_CMD":
			return "echo from variable", true
		}
		return "", false
	}}, p, Options{Strict: true, Now: time.Now(), Python: py})
	for _, x := range res.Problems {
		fmt.Println("P", x.Class, x.String())
	}
	for _, x := range res.Warnings {
		fmt.Println("W", x.Class, x.String())
	}
	for _, d := range res.DAGs {
		fmt.Println(string(d.Document))
	}
}
