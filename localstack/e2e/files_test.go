package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/gustflow/gust/internal/airflow"
	"github.com/gustflow/gust/internal/engine"
)

const editedDAG = `
edited_TAG:
` + head + `
  tasks:
    - {task_id: first, operator: BashOperator, bash_command: "touch SCRATCH/edit-started; for i in $(seq 900); do test -e SCRATCH/edit-go && exit 0; sleep 0.1; done; exit 1"}
    - {task_id: script, operator: BashOperator, bash_command: step_TAG.sh, dependencies: [first]}
    - {task_id: python, operator: PythonOperator, python_callable: edited_TAG_mod.value, dependencies: [first]}
    - {task_id: last, operator: BashOperator, bash_command: "echo old", dependencies: [script, python]}
`

// TestFilesReplacedDuringARun replaces the DAG file, its script and its Python module while a run is under way: the run
// keeps what it began with, the next one has the new files.
func TestFilesReplacedDuringARun(t *testing.T) {
	t.Parallel()
	s := need(t)
	s.upload(t, map[string]string{"step_TAG.sh": "echo old script", "edited_TAG_mod.py": "def value():\n    return 'old module'\n"})
	r := s.deploy(t, "edited_TAG", editedDAG)
	eventually(t, endWithin, "first task", func() bool { return s.exists("edit-started") })
	s.upload(t, map[string]string{
		"step_TAG.sh": "echo new script", "edited_TAG_mod.py": "def value():\n    return 'new module'\n",
		"edited_TAG.yml": strings.Replace(editedDAG, "echo old", "echo new", 1) + "    - {task_id: added, operator: EmptyOperator}\n",
	})
	before := r.info()
	eventually(t, endWithin, "new version and new files", func() bool {
		m, err := s.store.GetDag(t.Context(), before.DagID)
		if err != nil {
			t.Fatal(err)
		}
		return m.LatestHash != before.DagHash && m.BundleHash != before.BundleHash
	})
	time.Sleep(3 * time.Second) // all three files were seen
	s.touch(t, "edit-go")
	r.ends(endWithin, success, "first=success script=success python=success last=success").has("script", `"old script"`).has("python", `"old module"`).has("last", `"old"`)
	s.trigger(t, "edited_TAG").ends(endWithin, success, "first=success script=success python=success last=success added=success").
		has("script", `"new script"`).has("python", `"new module"`).has("last", `"new"`)
}

// TestBadFile uploads a file that cannot be read beside a good one, mends it, and removes it.
func TestBadFile(t *testing.T) {
	t.Parallel()
	s := need(t)
	good := "\n" + head + "  tasks: [{task_id: t, operator: EmptyOperator}]\n"
	s.upload(t, map[string]string{"bad_TAG.yml": "bad_TAG:\n  tasks: [\n", "good_TAG.yml": "good_TAG:" + good})
	problem := func() *airflow.ImportError {
		for _, e := range s.importErrors(t) {
			if e.Filename == s.fill("bad_TAG.yml") {
				return &e
			}
		}
		return nil
	}
	eventually(t, endWithin, "import error", func() bool { return problem() != nil })
	if e := problem(); len(e.Problems) == 0 || e.Problems[0].Line == 0 {
		t.Errorf("the import error names no line: %+v", e)
	}
	s.known(t, "good_TAG")
	s.trigger(t, "good_TAG").ends(endWithin, success, "t=success")

	s.upload(t, map[string]string{"bad_TAG.yml": "bad_TAG:" + good})
	s.known(t, "bad_TAG")
	eventually(t, endWithin, "end of the import error", func() bool { return problem() == nil })
	r := s.trigger(t, "bad_TAG").ends(endWithin, success, "t=success")

	s.upload(t, map[string]string{"bad_TAG.yml": "bad_TAG:\n  tasks: [{task_id: t, operator: EmptyOperator}, {task_id: t, operator: EmptyOperator}]\n  schedule: 5 parsecs\n"})
	eventually(t, endWithin, "import error of a DAG that has run", func() bool { return problem() != nil })
	if _, err := s.engine.Trigger(t.Context(), engine.TriggerOptions{DagID: r.key.DagID, TriggeredBy: airflow.TriggeredByCLI}); err == nil {
		t.Error("a broken DAG was triggered")
	}
	s.remove(t, "bad_TAG.yml")
	eventually(t, 3*endWithin, "stale DAG after its file was removed", func() bool {
		m, err := s.store.GetDag(t.Context(), r.key.DagID)
		return err == nil && m.IsStale
	})
	if e := problem(); e != nil {
		t.Errorf("a removed file has an import error: %+v", e)
	}
}

// objects lists objects of the data bucket whose key begins with prefix and contains part.
func (s *site) objects(t *testing.T, prefix, part string) (keys []string) {
	t.Helper()
	p := s3.NewListObjectsV2Paginator(s.s3, &s3.ListObjectsV2Input{Bucket: aws.String(s.env["GUST_DATA_BUCKET"]), Prefix: &prefix})
	for p.HasMorePages() {
		page, err := p.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, o := range page.Contents {
			if strings.Contains(*o.Key, part) {
				keys = append(keys, *o.Key)
			}
		}
	}
	return keys
}
