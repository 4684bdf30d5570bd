package operatorspec

import "testing"

func TestTable(t *testing.T) {
	n := 0
	for path := range loadIndex().lines {
		s, ok := Lookup(path)
		if !ok {
			t.Fatalf("%s: not found", path)
		}
		if s.Decorator != "" {
			if _, ok := Lookup(s.Operator); !ok {
				t.Errorf("decorator %s makes %s, which is not in the table", s.Decorator, s.Operator)
			}
		}
		n++
	}
	if n < 350 {
		t.Errorf("only %d rows", n)
	}
	for c := range runnable {
		if _, ok := Lookup(c); !ok {
			t.Errorf("runnable class %s is not in the table", c)
		}
	}
	for old, l := range legacy {
		if s, _, ok := Resolve(old); !ok && l.to != "airflow.sdk.bases.branch.BaseBranchOperator" {
			t.Errorf("%s → %s does not resolve (%v)", old, l.to, s)
		}
	}
}

func TestResolve(t *testing.T) {
	for path, want := range map[string]struct {
		class string
		sp    Spelling
	}{
		"airflow.operators.bash.BashOperator":            {"airflow.providers.standard.operators.bash.BashOperator", Shim},
		"airflow.operators.dummy_operator.DummyOperator": {Empty, Gone},
		"BashOperator": {"airflow.providers.standard.operators.bash.BashOperator", Short},
		"airflow.sensors.external_task_sensor.ExternalTaskSensor":  {ExternalTask, Gone},
		"airflow.providers.standard.operators.empty.EmptyOperator": {Empty, Current},
		"airflow.providers.amazon.aws.operators.s3.S3ListOperator": {"airflow.providers.amazon.aws.operators.s3.S3ListOperator", Current},
		"SnsPublishOperator": {"airflow.providers.amazon.aws.operators.sns.SnsPublishOperator", Short},
	} {
		s, sp, ok := Resolve(path)
		if !ok || s.Class != want.class || sp != want.sp {
			t.Errorf("Resolve(%q) = %v, %v, %v", path, s, sp, ok)
		}
	}
	for path, class := range map[string]string{
		"airflow.sdk.task": DecoratedPython, "airflow.decorators.task": DecoratedPython, "airflow.sdk.definitions.decorators.task": DecoratedPython,
		"airflow.sdk.task.branch":                              "airflow.providers.standard.decorators.branch_python._BranchPythonDecoratedOperator",
		"airflow.providers.standard.decorators.bash.bash_task": "airflow.providers.standard.decorators.bash._BashDecoratedOperator",
	} {
		s, _, _, ok := ResolveDecorator(path)
		if !ok || s.Class != class {
			t.Errorf("ResolveDecorator(%q) = %v, %v", path, s, ok)
		}
	}
	if got := Suggest("airflow.providers.standard.operators.bash.BashOperater"); got != "airflow.providers.standard.operators.bash.BashOperator" {
		t.Errorf("Suggest = %q", got)
	}
	if got := Nearest("retires", []string{"retries", "queue"}); got != "retries" {
		t.Errorf("Nearest = %q", got)
	}
	if KnownModule("airflow.sdk.task") || !KnownModule("airflow.providers.standard.operators.bash") {
		t.Error("KnownModule")
	}
}
