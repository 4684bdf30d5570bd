package dynamotest

import (
	"bufio"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

const envChild = "GUST_DYNAMOTEST_CHILD"

// TestChild is what the other tests run in a process of its own.
func TestChild(t *testing.T) {
	switch os.Getenv(envChild) {
	case "":
		t.Skip("only in a process that another test starts")
	case "hold":
		Start(t)
		addr, err := server()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Println("address", addr)
		time.Sleep(time.Minute)
	default:
		Open(t)
	}
}

func child(mode string, env ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestChild$", "-test.v")
	cmd.Env = append(append(os.Environ(), envChild+"="+mode), env...)
	return cmd
}

// TestProcessEndsWithTheTests kills a test binary in the middle: its DynamoDB Local must not stay behind.
func TestProcessEndsWithTheTests(t *testing.T) {
	Start(t) // skips without the jars
	cmd := child("hold")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr := ""
	for sc := bufio.NewScanner(out); addr == "" && sc.Scan(); {
		addr, _ = strings.CutPrefix(sc.Text(), "address ")
		if !strings.HasPrefix(addr, "http") {
			addr = ""
		}
	}
	if addr == "" {
		t.Fatalf("the child did not start it: %v", cmd.Wait())
	}
	if resp, err := http.Get(addr); err != nil {
		t.Fatal(err)
	} else {
		_ = resp.Body.Close()
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		resp, err := http.Get(addr)
		if err != nil {
			return
		}
		_ = resp.Body.Close()
		if time.Now().After(deadline) {
			t.Fatalf("%s still answers", addr)
		}
	}
}

func TestMissingJars(t *testing.T) {
	none := EnvJars + "=" + t.TempDir()
	out, err := child("open", none, EnvRequire+"=").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- SKIP: TestChild") || !strings.Contains(string(out), "install-dynamodb-local.sh") {
		t.Errorf("not required: %v\n%s", err, out)
	}
	out, err = child("open", none, EnvRequire+"=1").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "--- FAIL: TestChild") || !strings.Contains(string(out), "install-dynamodb-local.sh") {
		t.Errorf("required: %v\n%s", err, out)
	}
}
