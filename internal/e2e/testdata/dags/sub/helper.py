from sub.lib_for_helper import VALUE

def by_file(x):
    return [x, VALUE]
