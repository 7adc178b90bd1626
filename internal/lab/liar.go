package lab

import (
	"strconv"
	"strings"
	"time"
)

// Lie is what a [Liar] tells those who claim locks.
type Lie int

const (
	// Grants tells every claimant that the lock is theirs, as if the key were free each time: any number hold it at once.
	// Extensions and releases succeed, and whoever reads the key finds the last one, with the whole life still before it.
	Grants Lie = iota
	// Denies tells every claimant that the lock is held by "liar", for another second, for ever.
	Denies
	// Forgets takes every claim of a free key and has lost the key at once. It does not show before somebody extends: until then
	// the key seems to have its life, and no event tells that it has gone.
	Forgets
	// Garbles answers claims and extensions, and questions about claimed keys, with replies of types that make no sense. The
	// claim is carried out all the same; a release is honest.
	Garbles
)

func (l Lie) String() string { return [...]string{"grants", "denies", "forgets", "garbles"}[l] }

// Liar is a server that lies about locks: a real one behind a proxy that puts other commands in the place of some. A command
// is answered by another command, not by a reply of the proxy's own, so that every client gets its replies in order and in its
// own protocol, and its events, however it sends.
//
// Claims are known by their form, as the library sends them: SET with NX and GET, or the script that gives fencing tokens. From
// then on the liar lies about that key, to everybody. All else is honest: what a client asks of a key that was never claimed, so
// that a probe finds what the server can do; claims by force; other keys.
//
// A Liar is a Proxy, too, which stalls and cuts as well as lies. Close ends it.
type Liar struct {
	*Proxy
	// Server is the one behind. It tells the truth.
	Server *Server

	lie Lie
	// Under the proxy's hookMu:
	told  map[string]request // the last claim or extension of each key that was claimed
	turns [kinds]int         // how often each kind of request was forged
}

// StartLiar runs a server that tells a lie.
func StartLiar(lie Lie) (*Liar, error) {
	server, err := Start(Config{})
	if err != nil {
		return nil, err
	}
	l := &Liar{Server: server, lie: lie, told: make(map[string]request)}
	if l.Proxy, err = newProxy(server.Addr(), l.forge); err != nil {
		server.Stop()
		return nil, err
	}
	return l, nil
}

// Close ends the proxy and the server. Further calls do nothing.
func (l *Liar) Close() {
	l.Proxy.Close()
	l.Server.Stop()
}

// forgeries are the scripts that answer in a request's place, with the key, and with the owner value and the life that it names;
// those of the last claim or extension where it names none. Where there are several scripts they take turns; where there is
// none, the request is answered honestly.
//
// What only reads is really asked, too: it is how a client asks for the events of a key, and those are not the liar's business.
var forgeries = map[Lie][kinds][]string{
	Grants: {
		claim:      {`return false`},
		claimToken: {newToken + `return {ARGV[1],1,token}`},
		look:       {pttl + `return tonumber(ARGV[2])`},
		read:       {get + `return ARGV[1]`},
		extend:     {`return ARGV[1]`},
		release:    {`return 1`},
	},
	Denies: {
		claim:      {`return "liar"`},
		claimToken: {`return {"liar",0,"0"}`},
		look:       {pttl + `return 1000`},
		read:       {get + `return "liar"`},
		extend:     {`return "liar"`},
		release:    {`return 0`},
	},
	Forgets: { // to have set a key and to have lost it is not to set it
		claim:      {get + `return v`},
		claimToken: {get + `if v then return {v,0,"0"} end ` + newToken + `return {ARGV[1],1,token}`},
		look:       {pttl + `if t<0 then return tonumber(ARGV[2]) end return t`},
		read:       {get + `return v or ARGV[1]`},
	},
	Garbles: {
		claim: garbled(set, `7`, `{"liar",{7}}`, refusal, `{}`),
		claimToken: garbled(set, `7`, `"liar"`, refusal, `{}`, `{ARGV[1]}`, `{1,ARGV[1],{}}`, `{ARGV[1],1,"soon"}`,
			`{ARGV[1],1,"-1"}`, `{ARGV[1],1,"99999999999999999999"}`),
		look:   garbled(pttl, `"soon"`, `{7}`, refusal, `false`),
		read:   garbled(get, `7`, `{"liar",{7}}`, refusal, `{}`),
		extend: garbled(``, `7`, `{"liar",{7}}`, refusal, `{}`),
	},
}

// What the forgeries are made of.
const (
	get      = `local v=redis.call("GET",KEYS[1]) `
	pttl     = `local t=redis.call("PTTL",KEYS[1]) `
	set      = `redis.call("SET",KEYS[1],ARGV[1],"NX","PX",ARGV[2]) `
	newToken = `local t=redis.call("TIME") local token=string.format("%.0f",t[1]*1000000+t[2]) `
	refusal  = `redis.error_reply("LIAR no")`
)

// garbled are scripts that do the same and answer differently.
func garbled(do string, replies ...string) []string {
	scripts := make([]string, len(replies))
	for i, r := range replies {
		scripts[i] = do + "return " + r
	}
	return scripts
}

// forge is the command that answers in place of one, nil for none.
func (l *Liar) forge(args []string) []string {
	r, ok := requestOf(args)
	if !ok {
		return nil
	}
	last, claimed := l.told[r.key]
	switch r.kind {
	case claim, claimToken:
		l.told[r.key] = r
	case extend:
		if claimed {
			l.told[r.key] = r
		}
		if l.lie == Forgets { // now it shows
			delete(l.told, r.key)
		}
	default:
		r.owner, r.life = last.owner, last.life
	}
	scripts := forgeries[l.lie][r.kind]
	if len(scripts) == 0 || !claimed && r.kind != claim && r.kind != claimToken {
		return nil
	}
	script := scripts[l.turns[r.kind]%len(scripts)]
	l.turns[r.kind]++
	return []string{"EVAL", script, "1", r.key, r.owner, r.life}
}

// kind is what a command wants of a lock's key.
type kind int

const (
	claim      kind = iota
	claimToken      // by the script that gives a fencing token, and answers an array: holder, whether it was set, token
	look            // at its TTL
	read
	extend
	release
	kinds int = iota
)

// request is a command that is about a lock's key, or may be.
type request struct {
	kind  kind
	key   string
	owner string // as is life: named by claims and extensions
	life  string // in milliseconds
}

// requestOf tells what a command wants, by its form.
func requestOf(args []string) (r request, ok bool) {
	if len(args) < 2 {
		return request{}, false
	}
	r.key = args[1]
	switch strings.ToUpper(args[0]) {
	case "SET":
		return setRequest(args)
	case "PTTL":
		r.kind = look
	case "GET":
		r.kind = read
	case "DELIFEQ", "DELEX":
		r.kind = release
	case "EVAL", "EVALSHA":
		return scriptRequest(args)
	default:
		return request{}, false
	}
	return r, true
}

// setRequest reads SET key owner PX|PXAT life, and NX GET for a claim or IFEQ owner GET for an extension.
func setRequest(args []string) (r request, ok bool) {
	if len(args) < 3 {
		return request{}, false
	}
	r.key, r.owner = args[1], args[2]
	var nx, get, ifeq bool
	for i := 3; i < len(args); i++ {
		switch option := strings.ToUpper(args[i]); option {
		case "NX":
			nx = true
		case "GET":
			get = true
		case "PX", "PXAT", "IFEQ":
			if i++; i == len(args) {
				return request{}, false
			}
			if option == "IFEQ" {
				ifeq = true
			} else {
				r.life = millis(args[i], option == "PXAT")
			}
		}
	}
	if ifeq {
		r.kind = extend
	}
	return r, r.life != "" && get && nx != ifeq
}

// scriptRequest tells the library's scripts from each other by their arguments: a call by its sum does not show the text. The
// first key is the lock's, the second one that of its counter.
func scriptRequest(args []string) (r request, ok bool) {
	if len(args) < 5 {
		return request{}, false
	}
	n, err := strconv.Atoi(args[2])
	if err != nil || n < 1 || n > len(args)-4 {
		return request{}, false
	}
	r.key, r.owner = args[3], args[3+n]
	switch rest := args[4+n:]; {
	case len(rest) == 0 && n == 1: // owner
		r.kind = release
	case len(rest) >= 2 && strings.HasPrefix(rest[0], "PEXPIRE"): // owner, PEXPIRE|PEXPIREAT, life, and the token if it is to be kept
		r.kind, r.life = extend, millis(rest[1], rest[0] == "PEXPIREAT")
	case len(rest) == 4 && n == 2 && strings.HasPrefix(rest[0], "PX") && rest[2] != "1": // owner, PX|PXAT, life, force, floor
		r.kind, r.life = claimToken, millis(rest[1], rest[0] == "PXAT")
	default:
		return request{}, false
	}
	return r, r.kind == release || r.life != ""
}

// millis is the life that a command gives a key: as it stands there, or until a point in time by this machine's clock, which is
// the server's, too. Empty if it is no number.
func millis(number string, at bool) string {
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil {
		return ""
	}
	if at {
		n -= time.Now().UnixMilli()
	}
	return strconv.FormatInt(n, 10)
}
