package moving

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A page and its code do not drift apart: what a page shows as Go is found in the files that the compiler sees. Blocks are found line
// for line, but for the indentation that their function gives them; code in a table's cells is found as part of a line.

// peers are the modules that each page is about.
var peers = map[string][]string{
	"README.md":     {"github.com/bsm/redislock"},
	"redislock.md":  {"github.com/bsm/redislock"},
	"redsync.md":    {"github.com/go-redsync/redsync/v4"},
	"etcd.md":       {"go.etcd.io/etcd/client/v3"},
	"valkeylock.md": {"github.com/valkey-io/valkey-go", "github.com/redis/rueidis"},
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func glob(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("%s: %v, %v", pattern, files, err)
	}
	return files
}

// flat is text without the tabs that lines begin with.
func flat(text string) string {
	lines := strings.Split(text, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t")
	}
	return "\n" + strings.Join(lines, "\n") + "\n"
}

// code is all that is compiled here, flat; statements is the same without lines of comments.
func code(t *testing.T) (all, statements string) {
	for _, file := range glob(t, "*_test.go") {
		if file != "pages_test.go" { // which is about pages
			all += flat(read(t, file))
		}
	}
	lines := slices.DeleteFunc(strings.Split(all, "\n"), func(line string) bool { return strings.HasPrefix(line, "//") })
	return all, strings.Join(lines, "\n")
}

var (
	block = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)\n```$")
	row   = regexp.MustCompile(`(?m)^\|.*\|$`)
	span  = regexp.MustCompile("`([^`]+)`")
	link  = regexp.MustCompile(`\]\(([^)#]+)[^)]*\)`)
)

func TestWhatPagesShowIsCompiled(t *testing.T) {
	all, statements := code(t)
	for _, page := range glob(t, "*.md") {
		text := read(t, page)
		blocks := 0
		for _, shown := range block.FindAllStringSubmatch(text, -1) {
			if shown[1] != "go" {
				continue
			}
			blocks++
			if !strings.Contains(all, flat(shown[2])) {
				t.Errorf("%s: this is not compiled:\n%s", page, shown[2])
			}
		}
		if blocks == 0 {
			t.Errorf("%s shows no Go", page)
		}
		for _, row := range row.FindAllString(text, -1) {
			for _, code := range span.FindAllStringSubmatch(row, -1) {
				if !strings.Contains(statements, code[1]) {
					t.Errorf("%s: this is not compiled: %s", page, code[1])
				}
			}
		}
	}
}

func TestPagesNameTheVersionsThatTheyWereCheckedWith(t *testing.T) {
	required := read(t, "go.mod")
	for _, page := range glob(t, "*.md") {
		text := read(t, page)
		for _, peer := range peers[page] {
			_, after, _ := strings.Cut(required, "\t"+peer+" ")
			version, _, _ := strings.Cut(after, "\n")
			if version == "" || page != "README.md" && !strings.Contains(text, version) {
				t.Errorf("%s: %s is required as %q, which the page does not name", page, peer, version)
			}
		}
		if peers[page] == nil {
			t.Errorf("%s: what is it about?", page)
		}
		for _, to := range link.FindAllStringSubmatch(text, -1) {
			if strings.Contains(to[1], "://") {
				continue
			}
			if _, err := os.Stat(to[1]); err != nil {
				t.Errorf("%s: %v", page, err)
			}
		}
	}
}
