def inspect_machine(): return {"self_test":{"failed":[]}}
def told(found): return str(found)
