package ctxlock

// The queue of those who wait for a lock is a sorted set beside its first key: members are entries, and scores their ranks. Whoever comes gets
// the rank of the last and one more, so the order is that of arrival, whatever becomes of clocks; only in an empty queue is it the server's time, in
// microseconds, so that those who come back to a queue that was emptied stand before those who came since. An entry tells all that is needed to
// pass the lock on to it:
//
//	validity:fenced:epoch:inbox:owner
//
// validity is in milliseconds; fenced is "f" if a fencing token is wanted, and empty otherwise; epoch counts the claims of one wait; inbox
// says how to tell the waiter: "m" and a name for a message to that inbox, "k" and a name for touching that key; owner is the whole value
// that the keys are to get, and ends the entry, since it may contain anything.
//
// The scripts read keys by GETEX, which does what GET does but does not have a server remember who read them: those who stand in a queue
// are told by name, and are not to hear of each change.

const (
	// readKeys reads the lock's keys, ARGV[1] of them: whose they are is in a list of "own", "free" and "held", and what a stranger has there in h.
	// bars tells that h keeps others out, though they may have a majority: it is of another majority, or of valkeylock (see mixed_majority.go).
	readKeys = `local n=tonumber(ARGV[1]) local is,own,free,h,bars={},0,0,nil,nil ` +
		`for i=1,n do local v=redis.call("GETEX",KEYS[i]) ` +
		`if v==ARGV[2] then is[i]="own" own=own+1 elseif not v then is[i]="free" free=free+1 else is[i]="held" local m=string.match(v,"^ctxlock/[^/]*~(%d+)%.") ` +
		`if m and n>1 and m*2-1~=n then h=v bars=2 elseif #v==24 and i*2-1<=n then h=bars==2 and h or v bars=bars or 1 elseif not bars then h=v end end end ` +
		`local q=KEYS[n+1] `

	// nextToken takes the next fencing token from the counters behind the queue: see claimScript for what it is. It is nil if one of them is
	// not to be used.
	nextToken = `local function token(floor) local c=0 ` +
		`for i=n+2,2*n+1 do local x=redis.pcall("GETEX",KEYS[i]) if type(x)=="table" then return nil end ` +
		`x=tonumber(x or 0) if not x or x~=x or x<0 or x>=9e15 then return nil end c=math.max(c,x) end ` +
		`local t=redis.call("TIME") local now=t[1]*1000000+t[2] ` +
		`local k=math.max(c+1,math.min(now,9e15),floor+1) local s=string.format("%.0f",k) ` +
		`for i=n+2,2*n+1 do redis.call("SET",KEYS[i],s,"PX",string.format("%.0f",math.max(k-now,0)/1000+3600000)) end ` +
		`return s end `

	// nudge has the first in the queue look who can be told, after so many milliseconds, for which nobody who stands in it takes a free key. free is
	// for how many nobody calls the roll, since the keys were left free on purpose.
	//
	// tell reaches a waiter: by a message to its inbox, or by a touch of the key that is its inbox. It gives how many have heard it: a touch
	// is heard by one, as far as is known. nil means that it must not be told.
	tell = `local function tell(kind,id,text) ` +
		`if kind=="m" then if ARGV[3]=="" then return nil end ` +
		`local r=redis.pcall("PUBLISH",ARGV[3]..id,text) if type(r)=="table" then return nil end return r end ` +
		`redis.call("SET",q..":"..id,"1","PX",1) redis.call("DEL",q..":"..id) return 1 end ` +
		`local function nudge(after,free) if after~="0" then redis.call("SET",mark,"1","PX",after) end ` +
		`for i=1,256 do local e=redis.pcall("ZRANGE",q,0,0) ` +
		`if e.err or not e[1] then redis.call("DEL",called) return end ` +
		`if free and i==1 then redis.call("SET",called,"1","NX","PX",free) end ` +
		`local kind,id=string.match(e[1],"^%d+:f?:%d+:([mk])([^:]+):") ` +
		`if id and tell(kind,id,"look "..after.." "..KEYS[1])~=0 then return end redis.call("ZREM",q,e[1]) end end `

	// rollCall empties the queue, and has all who stood in it look, unless that was done in the last ms milliseconds. Those who live claim again, and
	// stand where they stood; those who were stopped, or killed, or cut off do not, and get nothing by an entry that is gone. It stops at 10,000
	// places (30 to 50 ms of the server's time); and those behind the first look a little later, not all at once.
	rollCall = `local function rollcall(ms) local e=redis.pcall("ZRANGE",q,0,0) ` +
		`if e.err or not e[1] or not redis.call("SET",called,"1","NX","PX",ms) then return end ` +
		`e=redis.call("ZPOPMIN",q,10000) for i=1,#e,2 do local kind,id=string.match(e[i],"^%d+:f?:%d+:([mk])([^:]+):") ` +
		`if id then tell(kind,id,"call "..math.min(100,math.floor(i/64)).." "..KEYS[1]) end end end `
)

var (
	// joinScript takes the keys if a majority of them is free, or ours already; else it stands in the queue.
	//
	// ARGV: number of keys, owner value, channel prefix, PX or PXAT, its value, entry, the rank that it had or empty, floor of the token, life of the
	// queue in milliseconds, flags, the marks of a pause and of a roll call, for how many milliseconds there is none after this one or 0, entries that
	// this wait may have in the queue already. Flags are "t" to tell what the key has left, "r" to have the queue live on, and "n" to take nothing
	// that is free.
	//
	// A lock that is free though others stand in the queue was passed on to one who let the keys run out, or its holder did: nobody knows who of
	// them lives, so the roll is called.
	//
	// Behind a holder that does not know of the queue, the first few are those who watch: more than one, since they may be dead. If one behind
	// them finds that the lock has come to another such holder, the roll is called, too.
	//
	// It returns the state: 1 taken, 0 in the queue, 2 in the queue and the keys are watched, 3 the same and the holder was told, -1 neither;
	// and then the token; another's value; what the first key has left, in milliseconds, or 0; the error that kept it from the queue, or the server's time if it was taken, or else the rank; and for
	// each key "o" if it was ours or "n" if it is now, with what it has left, "f" if it is free, and "h" if another has it.
	//
	// The first line keeps it from running while the server is out of memory: without that, a script may use as much as it likes once it has used a
	// command that writes, of which GETEX is one. Passing on is another matter: it must go on then.
	joinScript = script{
		text: "#!lua\n" + `local mark,called=ARGV[11],ARGV[12] local function flag(f) return string.find(ARGV[10],f) end ` + readKeys + nextToken + tell + rollCall +
			`local function answer(state,token,ttl,err) local r={state,token,h or "",ttl,err} ` +
			`for i=1,n do local x=string.sub(is[i],1,1) r[5+i]=x if x=="o" or x=="n" then r[5+i]=x..redis.call("PTTL",KEYS[i]) end end return r end ` +
			`local since=false ` +
			`for i=14,#ARGV do since=redis.pcall("ZSCORE",q,ARGV[i]) or since redis.pcall("ZREM",q,ARGV[i]) end ` +
			`local yields=own==0 and free>n/2 and redis.call("PTTL",mark) or -2 ` +
			`if yields>100 then yields=-2 end ` +
			`if own+free>n/2 and yields<1 and (own>n/2 or not (bars or flag("n"))) then local k="0" ` +
			`if #KEYS>n+1 then local floor=tonumber(ARGV[8]) ` +
			`if own>n/2 then for i=n+2,2*n+1 do local x=tonumber(redis.call("GETEX",KEYS[i]) or 0) if x and x>floor and x<9e15 and x>tonumber(k) then k=string.format("%.0f",x) end end end ` +
			`if k=="0" then k=token(floor) end ` +
			`if not k then return redis.error_reply("CTXLOCKTOKEN the counter of fencing tokens is not to be used") end end ` +
			`for i=1,n do if is[i]=="free" then redis.call("SET",KEYS[i],ARGV[2],ARGV[4],ARGV[5]) is[i]="new" end end ` +
			`if own==0 and ARGV[13]~="0" then rollcall(ARGV[13]) end ` +
			`local t=redis.call("TIME") return answer(1,k,0,t[1].." "..t[2]) end ` +
			`if type(since)=="table" then return answer(-1,"0",0,since.err or "WRONGTYPE") end ` +
			`local rank,renew=tonumber(since or ARGV[7]),flag("r") ` +
			`if not rank then local e=redis.pcall("ZRANGE",q,-1,-1,"WITHSCORES") if e.err then return answer(-1,"0",0,e.err) end ` +
			`if e[2] then rank=(tonumber(e[2]) or 0)+1 else renew=true local t=redis.call("TIME") rank=t[1]*1000000+t[2] end end ` +
			`rank=string.format("%.0f",rank) ` +
			`local r=redis.pcall("ZADD",q,"NX",rank,ARGV[6]) if type(r)=="table" then return answer(-1,"0",0,r.err) end ` +
			`r=renew and redis.pcall("PEXPIRE",q,ARGV[9]) if type(r)=="table" then redis.call("ZREM",q,ARGV[6]) return answer(-1,"0",0,r.err) end ` +
			`if not h then redis.call("PTTL",KEYS[1]) return answer(2,"0",yields,rank) end ` +
			`local function left() for i=1,n do local x=redis.call("PTTL",KEYS[i]) if x~=-2 then return x end end return 0 end ` +
			`local passes=string.find(h,"^ctxlock/[^/]*/%+") ` +
			`if not passes and (since or ARGV[7]~="") and ARGV[13]~="0" and redis.call("ZRANK",q,ARGV[6])>2 then ` +
			`rollcall(2*ARGV[13]) redis.call("ZADD",q,"NX",rank,ARGV[6]) redis.call("PEXPIRE",q,ARGV[9]) end ` +
			`if passes or redis.call("ZRANK",q,ARGV[6])>2 then return answer(0,"0",flag("t") and left() or 0,rank) end ` +
			`if free<=n/2 then redis.call("DEL",mark) end ` +
			`local told=0 local id=string.match(h,"^ctxlock/([^/]+)/") ` +
			`if id then told=tell("m",id,"wait "..KEYS[1]) or 0 end ` +
			`return answer(told>0 and 3 or 2,"0",left(),rank)`,
		sha1: "0a1b5ca9add8332607a1f873ffc195b853247227",
	}

	// placeScript reads the lock's keys, and whether an entry stands in the queue: in one command, since those who wait for long
	// look again and again.
	//
	// ARGV: the entry. It returns, for each key, its value, or "" if it has none, and PTTL; and then 1 if the entry is there, or if that cannot
	// be known.
	placeScript = script{
		text: `local n,r=#KEYS-1,{} ` +
			`for i=1,n do r[#r+1]=redis.call("GETEX",KEYS[i]) or "" r[#r+1]=redis.call("PTTL",KEYS[i]) end ` +
			`r[#r+1]=redis.pcall("ZSCORE",KEYS[n+1],ARGV[1]) and 1 or 0 return r`,
		sha1: "17b9f2a8a34e410389d878f411e2fec2fa38074f",
	}

	// passScript gives the keys that are ours to the first in the queue that can be told, or deletes them. If very many have gone without a
	// word, it deletes the keys, too, and the next have to look: the server does nothing else meanwhile.
	//
	// ARGV: number of keys, owner value, channel prefix, whether to pass it on, how many have passed it on in a row and for how many milliseconds,
	// floor of the token, how many milliseconds are for others if it is not passed on, the marks of such a pause and of a roll call, for how many milliseconds
	// there is none then, entries that this wait may have in the queue.
	//
	// It returns, for each key, whether it was ours.
	passScript = script{
		text: `local mark,called=ARGV[9],ARGV[10] ` + readKeys + nextToken + tell +
			`local r={} for i=1,n do r[i]=is[i]=="own" and 1 or 0 end ` +
			`for i=12,#ARGV do redis.pcall("ZREM",q,ARGV[i]) end ` +
			`if own==0 then nudge("0") return r end ` +
			`local empty,pops=false,0 while ARGV[4]=="1" and own>n/2 and pops<256 do pops=pops+1 ` +
			`local e=redis.pcall("ZPOPMIN",q) empty=not e.err and not e[1] if e.err or empty then break end ` +
			`local v,f,ep,kind,id,o=string.match(e[1],"^(%d+):(f?):(%d+):([mk])([^:]+):(.+)$") ` +
			`if o and #v<15 and tonumber(v)>0 then local k="0" if f=="f" and #KEYS>n+1 then k=token(tonumber(ARGV[7])) or "0" end ` +
			`local heard=tell(kind,id,"pass "..ep.." "..(own+free).." "..k.." "..ARGV[5].." "..ARGV[6].." "..#KEYS[1].." "..KEYS[1]..o) ` +
			`if not heard then redis.call("ZADD",q,e[2],e[1]) break end ` +
			`if heard>0 then for i=1,n do if is[i]~="held" then redis.call("SET",KEYS[i],o,"PX",v) end end return r end end end ` +
			`for i=1,n do if is[i]=="own" then redis.call("DEL",KEYS[i]) end end ` +
			`if empty then redis.call("DEL",called) else nudge(ARGV[8],ARGV[11]) end return r`,
		sha1: "e85b1cb2ce4c977202a144b77b00908504b41a3c",
	}
)
