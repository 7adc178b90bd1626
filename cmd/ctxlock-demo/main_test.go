package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/ctxlock/ctxlock/internal/lab"
)

// The demo runs itself again for its processes, which here is the test binary.
func TestMain(m *testing.M) {
	if text := os.Getenv(roleEnv); text != "" {
		if os.Getenv(loneEnv) != "" {
			os.Setenv(roleEnv, isolated(text))
		}
		main()
		return
	}
	os.Exit(m.Run())
}

// loneEnv makes process A look for the lock where nobody else does.
const loneEnv = "CTXLOCK_DEMO_TEST_LONE"

func isolated(text string) string {
	var r role
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		panic(err)
	}
	if r.Process == "A" {
		r.Prefix += "-elsewhere"
	}
	changed, err := json.Marshal(r)
	if err != nil {
		panic(err)
	}
	return string(changed)
}

func TestDemo(t *testing.T) {
	t.Setenv("COLUMNS", "")
	var out, errs bytes.Buffer
	status := run(t.Context(), nil, &out, &errs)
	t.Log(out.String())
	if status != 0 || errs.Len() > 0 {
		t.Fatalf("exit status %d, and on stderr: %s", status, &errs)
	}
	for _, words := range []string{
		"1 release: ", "2 kill: ", "3 lost link: ", "4 force: ", // the account
		"is killed with -9", "its link stalls", "reason: expired", "takes the lock by force", "reason: taken",
		"█ holds the lock", "~█", // the timeline
		"→ B  by force", // the table
		"✓  no two bars overlap: 15 holdings, ",
		"✓  by force: ",
		"✓  no work was lost: ",
		"✓  nothing is left on the server",
		"✓  all four scenes happened",
		"OK  one holder at a time, no work lost, nothing left behind",
	} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("the output lacks %q", words)
		}
	}
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > defaultColumns {
			t.Errorf("a line of %d characters: %s", n, line)
		}
	}
}

// The demo can fail: it sees when the lock does not exclude, and what comes of it.
func TestDemoWithoutExclusion(t *testing.T) {
	t.Setenv(loneEnv, "1")
	var out, errs bytes.Buffer
	if status := run(t.Context(), []string{"-q"}, &out, &errs); status != 1 {
		t.Errorf("exit status %d", status)
	}
	t.Log(out.String(), errs.String())
	for _, words := range []string{"TWO HELD THE LOCK AT ONCE: ", "WORK WAS LOST: ", "╳", "FAILED"} {
		if !strings.Contains(out.String(), words) {
			t.Errorf("the output lacks %q", words)
		}
	}
}

// A server that was there before has what it had before.
func TestDemoInterruptedOnAnothersServer(t *testing.T) {
	s, err := lab.Start(lab.Config{Password: "secret"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	if _, err := s.Do("SET", "mine", "1"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var errs bytes.Buffer
	out := &trigger{words: "releases it", pull: cancel}
	status := run(ctx, []string{"-server", "redis://:secret@" + s.Addr()}, out, &errs)
	if status != 1 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit status %d, and on stderr: %s", status, &errs)
	}
	if strings.Contains(out.String(), "secret") {
		t.Error("the password was printed")
	}
	keys, err := s.Do("KEYS", "*")
	if list, ok := keys.([]any); err != nil || !ok || len(list) != 1 || list[0] != "mine" {
		t.Errorf("on the server are %v, %v", keys, err)
	}
}

// trigger is an output that has something happen when it reads certain words.
type trigger struct {
	bytes.Buffer
	words string
	pull  func()
}

func (t *trigger) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(t.words)) {
		t.pull()
	}
	return t.Buffer.Write(b)
}

func TestWithoutServer(t *testing.T) {
	t.Setenv("PATH", "")
	t.Setenv(lab.ServerEnv, "")
	var errs bytes.Buffer
	if status := run(t.Context(), nil, io.Discard, &errs); status != 1 {
		t.Errorf("exit status %d", status)
	}
	for _, words := range []string{"make server", "apt-get install valkey-server", "docker compose up", "-server"} {
		if !strings.Contains(errs.String(), words) {
			t.Errorf("the advice lacks %q:\n%s", words, &errs)
		}
	}
}

func TestBadFlags(t *testing.T) {
	for _, args := range [][]string{{"-what"}, {"word"}} {
		if status := run(t.Context(), args, io.Discard, io.Discard); status != 2 {
			t.Errorf("%q: exit status %d", args, status)
		}
	}
	for _, address := range []string{"nowhere", "unix:///tmp/socket", "redis://a:1?addr=b:2", "http://a"} {
		var errs bytes.Buffer
		if status := run(t.Context(), []string{"-server", address}, io.Discard, &errs); status != 1 || errs.Len() == 0 {
			t.Errorf("%q: exit status %d, and on stderr: %s", address, status, &errs)
		}
	}
}
