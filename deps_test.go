package ctxlock_test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// Whoever uses ctxlock gets valkey-go with it, and nothing else.

const module = "github.com/ctxlock/ctxlock"

// golang runs the go command and gives the lines of its output.
func golang(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := exec.Command("go", args...).Output()
	if err != nil {
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return strings.Split(strings.TrimSpace(string(out)), "\n")
}

// notImported are packages of the standard library that a lock has no business with, and why.
var notImported = map[string]string{
	"testing":          "it registers flags in every program",
	"testing/synctest": "that is for tests",
	"flag":             "a library has no flags",
	"log":              "callers decide what is logged",
	"log/slog":         "callers decide what is logged",
	"net/http":         "it is a large part of the programs that do not need it",
	"os":               "options come from the caller, not from the environment",
	"os/exec":          "nothing is run",
	"reflect":          "nothing is looked into",
	"unsafe":           "nothing is worth it",
	"crypto/sha1":      "it is forbidden in FIPS mode",
	"encoding/json":    "nothing is encoded",
	"math/rand":        "math/rand/v2 and crypto/rand are there",
}

func TestTheLibraryNeedsNothingButTheClient(t *testing.T) {
	ofClient := golang(t, "list", "-deps", "github.com/valkey-io/valkey-go")
	ofModule := []string{module, module + "/fence", module + "/internal/bounds", module + "/internal/jitter", module + "/store"}
	for _, line := range golang(t, "list", "-deps", "-f", "{{.Standard}} {{.ImportPath}}", module, module+"/fence") {
		standard, path, _ := strings.Cut(line, " ")
		switch {
		case standard == "true", slices.Contains(ofClient, path), slices.Contains(ofModule, path):
		default:
			t.Errorf("%s is needed by %s", path, module)
		}
	}
	for _, line := range golang(t, append([]string{"list", "-f", `{{.ImportPath}} {{join .Imports " "}}`}, ofModule...)...) {
		imports := strings.Fields(line)
		for _, path := range imports[1:] {
			if why := notImported[path]; why != "" {
				t.Errorf("%s imports %s: %s", imports[0], path, why)
			}
		}
	}
}

func TestTheModuleRequiresTheClientAndTheTestFramework(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
		Replace, Exclude []any
	}
	if err := json.Unmarshal([]byte(strings.Join(golang(t, "mod", "edit", "-json"), "\n")), &mod); err != nil {
		t.Fatal(err)
	}
	var direct []string
	for _, r := range mod.Require {
		if !r.Indirect {
			direct = append(direct, r.Path)
		}
	}
	slices.Sort(direct)
	if want := []string{"github.com/onsi/ginkgo/v2", "github.com/onsi/gomega", "github.com/valkey-io/valkey-go"}; !slices.Equal(direct, want) {
		t.Errorf("required: %v", direct)
	}
	if len(mod.Replace)+len(mod.Exclude) > 0 {
		t.Errorf("replaced: %v, excluded: %v: who uses the module does not get that", mod.Replace, mod.Exclude)
	}
}
