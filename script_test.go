package ctxlock

import (
	"crypto/sha1"
	"encoding/hex"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/valkey-io/valkey-go"

	"github.com/ctxlock/ctxlock/internal/lab"
	"github.com/ctxlock/ctxlock/store"
)

var scripts = map[string]script{
	"extend": extendScript, "release": releaseScript, "claim": claimScript, "raise": raiseScript, "enlist": enlistScript, "waiting": waitingScript,
	"join": joinScript, "place": placeScript, "pass": passScript,
}

func TestScriptSums(t *testing.T) {
	for name, s := range scripts {
		if sum := sha1.Sum([]byte(s.text)); hex.EncodeToString(sum[:]) != s.sha1 {
			t.Errorf("%s: the sum is %x", name, sum)
		}
	}
}

// clusterNode is a server that knows of slots: one of those that CTXLOCK_CLUSTER names, or one that is started for the test.
func clusterNode(t *testing.T) *lab.Server {
	t.Helper()
	start := func() (*lab.Server, error) { return lab.Start(lab.Config{Args: []string{"--cluster-enabled", "yes"}}) }
	if address, _, _ := strings.Cut(os.Getenv("CTXLOCK_CLUSTER"), ","); address != "" {
		start = func() (*lab.Server, error) { return lab.Attach(address) }
	}
	s, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

func TestServersCompileTheScriptsAndSumThemAlike(t *testing.T) {
	s := clusterNode(t)
	for name, script := range scripts {
		if sum, err := s.Do("SCRIPT", "LOAD", script.text); err != nil || sum != script.sha1 {
			t.Errorf("%s: the server says %v, %v", name, sum, err)
		}
	}
}

func TestSlotOf(t *testing.T) {
	for key, want := range map[string]int{ // from the specification of Redis Cluster, and from CLUSTER KEYSLOT
		"":                     0,
		"123456789":            12739, // 0x31C3, the check value of CRC-16/XMODEM
		"foo":                  12182,
		"bar":                  5061,
		"hello":                866,
		"somekey":              11058,
		"foo{hash_tag}":        2515,
		"bar{hash_tag}":        2515,
		"hash_tag":             2515,
		"{user1000}.following": 3443,
		"{user1000}.followers": 3443,
		"user1000":             3443,
		"foo{{bar}}zap":        4015, // of "{bar"
		"{bar":                 4015,
		"foo{bar}{zap}":        5061,  // of "bar"
		"valkeylock:0:{x}":     16287, // of "x"
		"x":                    16287,
	} {
		if got := slotOf(key); got != want {
			t.Errorf("%q: slot %d, not %d", key, got, want)
		}
	}
}

func TestServersFindTheSameSlots(t *testing.T) {
	s := clusterNode(t)
	seed := rand.Uint64()
	random := rand.New(rand.NewPCG(seed, 0))
	for i := range 2000 {
		name := make([]byte, random.IntN(20))
		for j := range name {
			if name[j] = byte(random.Uint32()); i%2 == 0 { // braces are what is special
				name[j] = "{}ab:"[random.IntN(5)]
			}
		}
		key := string(name)
		if i%4 < 2 {
			key = wakeKeyOf("valkeylock", key)
		}
		slot, err := s.Do("CLUSTER", "KEYSLOT", key)
		if err != nil {
			t.Fatal(err)
		}
		if slot != int64(slotOf(key)) {
			t.Errorf("seed %d: %q: slot %d, and %d by the server", seed, key, slotOf(key), slot)
		}
	}
}

// refused is what the client makes of an error reply.
func refused(t *testing.T, text string) error {
	t.Helper()
	var m valkey.ValkeyMessage
	encoded := append(make([]byte, 7), '-', 0, 0, 0, 0, 0, 0, 0, byte(len(text)))
	if err := m.CacheUnmarshalView(append(encoded, text...)); err != nil {
		t.Fatal(err)
	}
	return valkey.NewResult(m, nil).Error()
}

func TestRefusals(t *testing.T) {
	for _, test := range []struct {
		text            string
		command, script bool // unknown to the server
		mends           bool
	}{
		{text: "ERR unknown command 'DELIFEQ', with args beginning with: 'k' 'v' ", command: true},
		{text: "ERR unknown command `DELEX`, with args beginning with: `k`, `IFEQ`, ", command: true}, // Redis before 7
		{text: "ERR syntax error", command: true},
		{text: "NOSCRIPT No matching script. Please use EVAL.", script: true, mends: true},
		{text: "ERR max number of clients reached", mends: true},
		{text: "LOADING Redis is loading the dataset in memory", mends: true},
		{text: "READONLY You can't write against a read only replica.", mends: true},
		{text: "OOM command not allowed when used memory > 'maxmemory'.", mends: true},
		{text: "MISCONF Errors writing to the AOF file: No space left on device", mends: true},
		{text: "BUSY Valkey is busy running a script.", mends: true},
		{text: "CLUSTERDOWN The cluster is down", mends: true},
		{text: "NOREPLICAS Not enough good replicas to write.", mends: true},
		{text: "WRONGTYPE Operation against a key holding the wrong kind of value"},
		{text: "NOPERM User x has no permissions to run the 'set' command"},
		{text: "NOAUTH Authentication required."},
		{text: "ERR invalid expire time in 'set' command"},
		{text: ""},
		{text: "ERR"},
		{text: "ERR "},
	} {
		var a answers
		a.ctx = t.Context()
		a.results = []valkey.ValkeyResult{valkey.NewErrorResult(refused(t, test.text))}
		var op store.Op
		a.look(&op) // what the engine gets to see of it
		if got := unknownCommand(op.Err); got != test.command {
			t.Errorf("%q: unknown command: %t", test.text, got)
		}
		if got := unknownScript(op.Err); got != test.script {
			t.Errorf("%q: unknown script: %t", test.text, got)
		}
		if got := !store.IsPermanent(op.Err); got != test.mends {
			t.Errorf("%q: mends: %t", test.text, got)
		}
	}
}
